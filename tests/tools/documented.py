"""The commands that a text of Loam's tells its reader to type."""

from __future__ import annotations

import re
from collections.abc import Iterator

PROGRAMS = ("kubectl", "helm", "loam", "curl", "make", "python")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELLS = ("sh", "bash", "shell", "console")
_BLOCK_LINE = re.compile(r"^ {4}(?! )(.*)$", re.MULTILINE)
_INLINE = re.compile(r"`([^`]+)`")


def list_commands(text: str) -> list[str]:
    """Those of code blocks and those inside of sentences, each once, in order of kind.

    A mere program's name is no command. Comments behind a command are left out.
    """
    fences = _FENCE.findall(text)
    rest = _FENCE.sub("", text)
    blocks = [body for language, body in fences if language in _SHELLS]
    joined = re.sub(r"\\\n\s*", "", rest)
    blocks += _BLOCK_LINE.findall(joined)
    spans = _INLINE.findall(_BLOCK_LINE.sub("", joined))
    found = [*_split_lines(blocks), *(" ".join(span.split()) for span in spans)]
    return list(dict.fromkeys(line for line in found if _is_command(line)))


def list_manifests(text: str) -> list[str]:
    """The YAML blocks."""
    return [body for language, body in _FENCE.findall(text) if language == "yaml"]


def _split_lines(blocks: list[str]) -> Iterator[str]:
    for block in blocks:
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            yield re.sub(r"\s+# .*$", "", line).strip()


def _is_command(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] in PROGRAMS

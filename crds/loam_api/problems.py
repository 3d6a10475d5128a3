"""What is wrong with a manifest, in words that give no secret away. Light to import."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loam_api.exits import ExitCode

MAX_SHOWN = 60

_HIDDEN = "(hidden)"
_SECRET_PATH = re.compile(r"key|secret|token(?!s)|password|credential", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(sk-|pk-|hf_|gh[a-z]_|xox[a-z]-|AKIA|eyJ)[-_A-Za-z0-9]{8,}")
_USER_INFO = re.compile(r"//[^/\s]*@")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at one place of a manifest.

    Attributes:
        path: the field, e.g. "spec.training.lora.rank"; "" for the whole document.
        value: what was given, shortened; "" when nothing was given.
        message: what would be accepted.
        suggestion: what was probably meant, e.g. 'did you mean "rank"?'; else "".
    """

    path: str
    value: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        given = f" (given: {self.value})" if self.value else ""
        suggestion = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.path or 'manifest'}: {self.message}{given}{suggestion}"

    def to_dict(self) -> dict[str, str]:
        """For programs: path, value, message, suggestion."""
        return asdict(self)


class ManifestError(Exception):
    """A manifest that is not a valid FineTuneJob.

    Attributes:
        problems: everything that is wrong, in the order of the paths.
    """

    exit_code = ExitCode.BAD_MANIFEST

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[ManifestError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


def join_path(location: Sequence[str | int]) -> str:
    """("spec", "files", 0, "uri") as "spec.files[0].uri"."""
    path = ""
    for step in location:
        if step == "[key]":  # pydantic's mark for the name of a map's entry
            continue
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path.removeprefix(".")


def show_value(path: str, value: Any) -> str:
    """The value as its writer knows it, one line, short; secrets and whole blocks are not shown."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a block"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return str(value)[:MAX_SHOWN]
    if _SECRET_PATH.search(path) or _SECRET_VALUE.search(value):
        return _HIDDEN
    text = _USER_INFO.sub(f"//{_HIDDEN}@", value)
    shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    return json.dumps(shown, ensure_ascii=False)  # quotes it, and keeps control characters out

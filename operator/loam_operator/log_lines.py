"""Which lines of an attempt's pods are kept, and how many of them."""

from __future__ import annotations

from collections.abc import Iterable

from loam_api.redaction import redact_shapes
from loam_api.status import MAX_LOG_LENGTH
from loam_operator.observed import PodLog
from loam_operator.status import clean_text, shorten

MOST_LINES = 100  # of a pod

_MOST_LINE_LENGTH = 400
_LAST_WORDS = 3
# The submitter's log is the job's own output; the others' are Ray's.
_ORDER = ("submitter", "worker", "head")


def keep_lines(logs: Iterable[PodLog]) -> str:
    """The last lines of each pod under its name, 4 KiB in all; "" where there are none."""
    found = [(log, _list_lines(log.text)) for log in sorted(logs, key=_rank)]
    found = [(log, lines) for log, lines in found if lines]
    sections, room = [], MAX_LOG_LENGTH
    for index, (log, lines) in enumerate(found):
        header = f"--- {log.role} {log.pod}"
        share = room // (len(found) - index) - len(header.encode()) - 2
        text = "\n".join([header, *_fit(lines, share)])
        sections.append(text)
        room -= len(text.encode()) + 1
    return "\n".join(sections)


def find_last_words(logs: Iterable[PodLog]) -> str:
    """The last lines of the log that tells most, in one; "" where there is none."""
    for log in sorted(logs, key=_rank):
        lines = _list_lines(log.text)
        if lines:
            return " / ".join(lines[-_LAST_WORDS:])
    return ""


def _rank(log: PodLog) -> int:
    return _ORDER.index(log.role)


def _list_lines(text: str) -> list[str]:
    # Masked before anything is cut: half a secret has no shape.
    lines = map(clean_text, redact_shapes(text).splitlines())
    return [shorten(line, _MOST_LINE_LENGTH) for line in lines if line][-MOST_LINES:]


def _fit(lines: list[str], num_bytes: int) -> list[str]:
    kept: list[str] = []
    for line in reversed(lines):
        num_bytes -= len(line.encode()) + 1
        if num_bytes < 0:
            break
        kept.insert(0, line)
    return kept

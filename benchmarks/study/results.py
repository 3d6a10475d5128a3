"""Finished cells on disk: one JSON line each, so that a run may end at any moment and go on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure: an arm on a data set in a repeat."""

    task: str
    repeat: int
    arm: str


class Results:
    """The finished cells of a study.

    Args:
        path: of the JSON Lines file; created with its folder. A last line that a killed process
            left half-written is cut off, and its cell counts as not done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._drop_torn_line()
        records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        self.by_cell: dict[Cell, dict[str, Any]] = {
            Cell(record["task"], record["repeat"], record["arm"]): record for record in records
        }

    def add(self, cell: Cell, **values: Any) -> dict[str, Any]:
        """Write one finished cell; it is on disk when this returns."""
        record = {"task": cell.task, "repeat": cell.repeat, "arm": cell.arm, **values}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.by_cell[cell] = record
        return record

    def find_same_rows(self, cell: Cell, digest: str) -> dict[str, Any] | None:
        """A finished cell of the same repeat that was trained on the very same rows."""
        for other, record in self.by_cell.items():
            same_draw = (other.task, other.repeat) == (cell.task, cell.repeat)
            if same_draw and digest and record.get("rowsDigest") == digest:
                return record
        return None

    def _drop_torn_line(self) -> None:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self._path.write_bytes(whole)

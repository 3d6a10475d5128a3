"""A small task for the study, in the files that it reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from benchmarks.study.tasks import Draw, draw_repeat, load_task

WriteTask = Callable[..., Draw]


@pytest.fixture
def write_task(tmp_path: Path) -> WriteTask:
    """Writes train and test rows of a task; returns its first repeat."""

    def write(
        name: str, labels: Sequence[str], compose: Callable[[str, str, int], str], **counts: int
    ) -> Draw:
        """Args:
        compose: a text of this side ("train" or "test"), label and number.
        counts: rows per label, by side.
        """
        folder = tmp_path / name
        folder.mkdir()
        for side, count in counts.items():
            rows = [
                {"text": compose(side, label, number), "label": label}
                for number in range(count)
                for label in labels
            ]
            (folder / f"{side}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return draw_repeat(load_task(tmp_path, name), repeat=0)

    return write

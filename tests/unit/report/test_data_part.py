"""What the report says of the user's rows."""

from __future__ import annotations

import pytest

from loam_runtime.steps.report_data import Outputs, describe_data


@pytest.mark.parametrize(
    ("dropped", "truncated", "notes"),
    [(0, 0, 0), (3, 0, 1), (0, 2, 1), (3, 2, 1)],
)
def test_the_report_says_what_a_length_has_cost(dropped: int, truncated: int, notes: int) -> None:
    """Rows that training left out or cut are told of: else a reader believes that the model has
    learnt from all of them."""
    read = {"rows": 9, "duplicates": 0, "conflicts": 0}
    rows = {"train": 9, "validation": 0, "test": 0}
    split = {"read": {"seeds": read}, "rows": rows, "notes": []}
    training = {"numRows": {"dropped": dropped, "truncated": truncated}}
    part = describe_data(Outputs(split, None, {}, {}, training, {}, {}, {}, [], [], []))
    assert len(part["notes"]) == notes
    for note in part["notes"]:
        assert f"{dropped} rows for training or validation were left out" in note
        assert f"{truncated} were shortened" in note

"""What the report says of money."""

from __future__ import annotations

import pytest
from tests.tools.remote_teacher import TEACHER

from loam_api.validation import validate_manifest
from loam_runtime.steps.report_data import Outputs, describe_usage


@pytest.mark.parametrize(("spent", "shown"), [(1.5, "1.5000"), (None, None)])
def test_the_report_says_what_the_teacher_has_cost(spent: float | None, shown: str | None):
    """In all and for a row that was kept, beside what people would have been paid; and nothing
    where prices are not known: a cost of 0 would be believed."""
    spec = {
        "model": {"uri": "s3://bucket/model"},
        "data": {"task": "text", "seeds": {"uri": "s3://bucket/seeds"}},
        "output": {"uri": "s3://bucket/out"},
        "synthesis": {"targetCount": 9, "teacher": TEACHER, "annotationPrice": 0.5},
    }
    head = {"apiVersion": "loam.dev/v1alpha1", "kind": "FineTuneJob"}
    job = validate_manifest({**head, "metadata": {"name": "job"}, "spec": spec})
    usage = {"requests": 3} if spent is None else {"requests": 3, "spent_cost": spent}
    training = {"training": {"train_seconds": 1.0, "num_tokens": 7}}
    made = {"usage": usage, "report": {"kept": 6}}
    outputs = Outputs({}, made, {}, {}, training, {}, {}, {}, [], [], [])
    facts = {one["name"]: one["value"] for one in describe_usage(job, outputs)}
    assert facts.get("teacher cost") == shown
    if spent is not None:
        assert facts["teacher cost of a kept row"] == "0.250000"
        assert facts["the same rows by people"] == "3.00 at 0.5 each"
        assert facts["teacher's share of that"] == "50.00%"

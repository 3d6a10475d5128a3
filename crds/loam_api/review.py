"""The human spot check: how a decision about synthetic rows travels, the same on both sides.

A person decides by annotations on the job (`loam approve` and `loam reject` write them) or, on one
machine, by the same commands alone. The operator hands the decision to the pods as one JSON
document; the runtime keeps it with the run.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from loam_api.status import MAX_REVIEWED_ROWS

SPOT_CHECK_FILE = "data/spot_check.csv"  # under the run's folder
SPOT_CHECK_PAGE = "data/spot_check.html"  # the same rows, to be read
ROW_MARK = "row-"  # before an id where a person reads it; may be left out where one writes it
ANNOTATION = "loam.dev/review"  # approved or rejected
ROWS_ANNOTATION = "loam.dev/review-rows"  # ids of rejected rows, by commas
GOOD_ROWS_ANNOTATION = "loam.dev/review-good-rows"  # ids of rows marked good, by commas
RUN_ANNOTATION = "loam.dev/review-run"  # the run that was looked at; without it, any
BY_ANNOTATION = "loam.dev/review-by"  # who decided, for the record
ANNOTATIONS = (
    ANNOTATION,
    ROWS_ANNOTATION,
    GOOD_ROWS_ANNOTATION,
    RUN_ANNOTATION,
    BY_ANNOTATION,
)

RowId = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ReviewDecision(BaseModel):
    """What a person decided.

    Attributes:
        decision: rejected without rows refuses the whole set.
        rejected_rows: ids of rows of the sample; they and rows like them leave the set.
        good_rows: ids of rows that were marked good one by one.
        by, time: who and when (RFC 3339), for the record.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: Literal["approved", "rejected"]
    rejected_rows: list[RowId] = Field(default_factory=list, max_length=MAX_REVIEWED_ROWS)
    good_rows: list[RowId] = Field(default_factory=list, max_length=MAX_REVIEWED_ROWS)
    by: str = Field(default="", max_length=64)
    time: str = Field(default="", max_length=32)

    @property
    def refuses_all(self) -> bool:
        """Nothing of the set may be trained on."""
        return self.decision == "rejected" and not self.rejected_rows


def parse_decision(text: str | bytes) -> ReviewDecision | None:
    """The decision in a JSON document; None for anything else."""
    try:
        return ReviewDecision.model_validate_json(text)
    except (ValidationError, ValueError):
        return None

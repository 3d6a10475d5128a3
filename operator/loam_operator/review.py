"""The human spot check: what the annotations of a job say, and what the waiting job says.

An annotation that names another run than the job's was written for other rows and does not count;
one that names no run counts for whatever rows there are, so that a pipeline may set it in advance.
"""

from __future__ import annotations

from datetime import datetime

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.review import (
    ANNOTATION,
    BY_ANNOTATION,
    GOOD_ROWS_ANNOTATION,
    ROW_MARK,
    ROWS_ANNOTATION,
    RUN_ANNOTATION,
    SPOT_CHECK_FILE,
    ReviewDecision,
)
from loam_api.status import MAX_REVIEWED_ROWS, FineTuneJobStatus, Review
from loam_operator.observed import JobView
from loam_operator.status import clean_text, format_time

DECISIONS = ("approved", "rejected")
_ID_LENGTH = 64


def is_decided(status: FineTuneJobStatus) -> bool:
    """Whether a person has decided about the rows of the job's present run."""
    return status.review is not None and status.review.run_key == (status.run_key or "")


def read_review(job: JobView, status: FineTuneJobStatus, now: datetime) -> Review | None:
    """The decision in the job's annotations; None where there is none, or none for this run."""
    word = job.review.get(ANNOTATION, "").strip()
    run_key = status.run_key or ""
    if word not in DECISIONS or job.review.get(RUN_ANNOTATION, run_key).strip() != run_key:
        return None
    rows = _read_ids(job, ROWS_ANNOTATION) if word == "rejected" else []
    good = [one for one in _read_ids(job, GOOD_ROWS_ANNOTATION) if one not in rows]
    if not (_is_bounded(rows) and _is_bounded(good)):
        return None
    return Review(
        decision="rejected" if word == "rejected" else "approved",
        run_key=run_key,
        rejected_rows=rows,
        good_rows=good,
        by=clean_text(job.review.get(BY_ANNOTATION, ""))[:_ID_LENGTH],
        time=format_time(now),
    )


def _read_ids(job: JobView, name: str) -> list[str]:
    """The row ids of an annotation, each once."""
    words = job.review.get(name, "").split(",")
    named = (clean_text(one).removeprefix(ROW_MARK) for one in words)
    return list(dict.fromkeys(one for one in named if one))


def _is_bounded(ids: list[str]) -> bool:
    return len(ids) <= MAX_REVIEWED_ROWS and all(len(one) <= _ID_LENGTH for one in ids)


def refuses_all(review: Review) -> bool:
    """Whether it leaves nothing to train on."""
    return review.decision == "rejected" and not review.rejected_rows


def describe_wait(job: JobView, spec: FineTuneJobSpec, status: FineTuneJobStatus) -> str:
    """Where the rows are and, where annotations are there that do not count, why not."""
    run_key = status.run_key or ""
    folder = f"{spec.output.uri.rstrip('/')}/runs/{run_key}/{SPOT_CHECK_FILE}"
    return f"{folder}. {_describe_mistake(job, run_key)}".strip()


def _describe_mistake(job: JobView, run_key: str) -> str:
    word = clean_text(job.review.get(ANNOTATION, ""))[:_ID_LENGTH]
    if not word:
        return ""
    if word not in DECISIONS:
        return f"The annotation {ANNOTATION} is {word!r}, which is neither approved nor rejected."
    run = clean_text(job.review.get(RUN_ANNOTATION, run_key))[:_ID_LENGTH]
    if run != run_key:
        return f"The annotation {RUN_ANNOTATION} names {run}: it was for other rows."
    return (
        f"The annotations {ROWS_ANNOTATION} and {GOOD_ROWS_ANNOTATION} may name "
        f"{MAX_REVIEWED_ROWS} row ids each, by commas."
    )


def describe_decision(review: Review) -> str:
    """For an event and a failure."""
    who = review.by or "somebody"
    if refuses_all(review):
        return f"{who} rejected the synthetic rows."
    if review.decision == "approved":
        return f"{who} approved the synthetic rows."
    return f"{who} rejected {len(review.rejected_rows)} of the synthetic rows that were looked at."


def build_decision(review: Review | None) -> str:
    """The document that the pods get; "" without a decision."""
    if review is None:
        return ""
    return ReviewDecision(
        decision=review.decision,
        rejected_rows=review.rejected_rows,
        good_rows=review.good_rows,
        by=review.by,
        time=review.time,
    ).model_dump_json()

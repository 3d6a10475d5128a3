"""`loam approve` and `loam reject`: a person's word about synthetic rows, here or in a cluster."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from loam_api.review import ReviewDecision
    from loam_runtime.synthesis.verdict_file import Verdicts

JobOrName = Annotated[
    str, typer.Argument(metavar="JOB", help="JOB.yaml on this machine, or a name in the cluster.")
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="In a cluster; by default the context's own.")
]
By = Annotated[str, typer.Option(help="Who decides; by default the user of this machine.")]
# From the ids of the sample, where they are at hand, to the decision.
Build = Callable[["Sequence[str] | None"], "ReviewDecision"]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def approve(
    job: JobOrName,
    verdicts: Annotated[
        Path | None,
        typer.Option(help="data/spot_check.csv of the run, its column verdict filled in."),
    ] = None,
    by: By = "",
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Let a job that waits for review go on; without the rows that the verdicts reject."""
    from loam_runtime.synthesis.verdict_file import read_verdicts

    def build(known_ids: Sequence[str] | None) -> ReviewDecision:
        told = read_verdicts(verdicts.read_bytes(), known_ids) if verdicts else None
        return _build(told, "approved", by)

    _decide(job, build, namespace, as_json)


def reject(
    job: JobOrName,
    rows: Annotated[
        str, typer.Option(help="Ids of the rows to leave out, by commas; without it: all rows.")
    ] = "",
    by: By = "",
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Refuse synthetic rows, and rows like them; the job goes on without them, or ends."""
    from loam_runtime.synthesis.verdict_file import Verdicts, unmark_id

    ids = tuple(dict.fromkeys(unmark_id(one) for one in rows.split(",") if one.strip()))
    _decide(job, lambda _: _build(Verdicts(ids, ()), "rejected", by), namespace, as_json)


def _build(verdicts: Verdicts | None, word: str, by: str) -> ReviewDecision:
    from loam_api.review import ReviewDecision

    rejected = list(verdicts.rejected) if verdicts else []
    return ReviewDecision(
        decision="rejected" if rejected else word,
        rejected_rows=rejected,
        good_rows=list(verdicts.good) if verdicts else [],
        by=(by or getpass.getuser())[:64],
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _decide(job: str, build: Build, namespace: str, as_json: bool) -> None:
    is_file = job.endswith((".yaml", ".yml", ".json"))
    if is_file:
        decision, then = _decide_here(Path(job), build)
    else:
        decision = build(None)
        then = _decide_in_cluster(job, decision, namespace)
    if as_json:
        print(json.dumps({"job": job, **decision.model_dump()}))
        return
    rows = (
        f" {len(decision.rejected_rows)} rows and those like them" if decision.rejected_rows else ""
    )
    print(f"{decision.decision.capitalize()}{rows} by {decision.by}. {then}")


def _decide_here(manifest: Path, build: Build) -> tuple[ReviewDecision, str]:
    """Keep the decision with the run; the run's own lock is not needed to speak to it."""
    from loam_api.review import SPOT_CHECK_FILE
    from loam_runtime.manifest import load_manifest
    from loam_runtime.pipeline import identify_run, open_output, open_run
    from loam_runtime.sources import fetch_sources
    from loam_runtime.steps.review import DECISION_FILE, is_reviewed
    from loam_runtime.synthesis.verdict_file import list_ids

    job, base_dir = load_manifest(manifest), manifest.resolve().parent
    run_key = identify_run(job, fetch_sources(job.spec, base_dir))
    run = open_run(job, base_dir, run_key)
    if is_reviewed(run) or run.is_finished():
        raise InputError(
            f"{job.metadata.name} was reviewed before and has gone on.",
            remedy="Give the job another seed or other settings to begin a new run.",
        )
    if not run.exists(SPOT_CHECK_FILE):
        raise InputError(
            f"{job.metadata.name} has no synthetic rows that wait for review.",
            remedy="Set synthesis.spotCheck.required and run the job: loam run.",
        )
    known = list_ids(run.get(SPOT_CHECK_FILE))
    decision = build(known)
    unknown = [one for one in decision.rejected_rows if one not in known]
    if unknown:
        raise InputError(
            f"{', '.join(unknown[:5])}: no such row in {run.uri}/{SPOT_CHECK_FILE}.",
            remedy="Take the ids from the column row id.",
        )
    store = open_output(job, base_dir)
    store.put(f"runs/{run_key}/{DECISION_FILE}", decision.model_dump_json(indent=1).encode())
    return decision, f"Now: loam run {manifest}"


def _decide_in_cluster(name: str, decision: ReviewDecision, namespace: str) -> str:
    from loam_api import review
    from loam_runtime.cluster_jobs import ClusterJobs

    jobs = ClusterJobs(namespace)
    state = jobs.read(name)
    if state.phase != "AwaitingReview":
        raise InputError(
            f"{name} is {state.reason or state.phase}: it does not wait for a review.",
            remedy=f"See `loam wait {name}` for what it does.",
        )
    jobs.annotate(
        name,
        {
            review.ANNOTATION: decision.decision,
            review.ROWS_ANNOTATION: ",".join(decision.rejected_rows) or None,
            review.GOOD_ROWS_ANNOTATION: ",".join(decision.good_rows) or None,
            review.RUN_ANNOTATION: state.run_key or None,
            review.BY_ANNOTATION: decision.by,
        },
    )
    return f"`loam wait {name} -n {jobs.namespace}` shows how it goes."

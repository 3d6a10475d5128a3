"""The operator's tables as Markdown: docs/states.md and docs/failures.md."""

from __future__ import annotations

from loam_operator.failures import FAILURES, HEALING, Failure
from loam_operator.states import INITIAL_STATES, MILESTONES, STATES, State

_STATES_INTRO = """\
# States of a FineTuneJob

Written by `operator/write_docs.py` from the table that the operator runs by; do not edit.

The state is the `reason` of the condition `Ready`; `kubectl get finetunejobs` shows its phase.
`Reconciling` is True while the operator works towards the result, `Stalled` is True where it needs
somebody's help, and both are False where nothing is to be done (kstatus reads these). A failed job
is left only by a new value of the annotation `loam.dev/retry`; a succeeded one never.
"""

_FAILURES_INTRO = """\
# Failures: who retries what

Written by `operator/write_docs.py` from the table that the operator runs by; do not edit.

Where two rows have evidence, the upper one counts. What concerns machines is judged by Kubernetes
objects, not by what the pods say, but for workers that are lost over and over. *Charged* retries
count for `spec.backoffLimit` and wait 10 s, 20 s, 40 s, ... at most 5 minutes; *free* ones start as
soon as the last attempt's pods are gone. A new attempt goes on behind the stages that are done and
from the last checkpoint.
"""


def render_states() -> str:
    """One row a state, and who follows whom."""
    rows = [
        "| state | phase | Ready | Reconciling | Stalled | meaning |",
        "|---|---|---|---|---|---|",
    ]
    rows += [_render_state(state) for state in STATES if state.phase != "Failed"]
    rows.append(
        "| one of the [failures](failures.md) | Failed | False | False | True | "
        "What happened, and what to do. |"
    )
    lines = ["| condition | True from |", "|---|---|"]
    for index, milestone in enumerate(MILESTONES):
        first = next(state for state in STATES if state.num_milestones > index)
        lines.append(f"| {milestone} | {first.name} |")
    return "\n".join(
        [
            _STATES_INTRO,
            *rows,
            "",
            "Milestones, which stay True once they are reached:",
            "",
            *lines,
            "",
            "```mermaid",
            "stateDiagram-v2",
            *_draw_transitions(),
            "```",
            "",
        ]
    )


def _render_state(state: State) -> str:
    flags = (state.is_ready, state.is_reconciling, state.is_stalled)
    meaning = state.meaning.format(attempt="N", step="S", again="", detail="…")
    return f"| {state.name} | {state.phase} | {' | '.join(map(str, flags))} | {meaning} |"


def _draw_transitions() -> list[str]:
    """All failures as one box: they differ in their evidence, not in their place."""
    failed = {failure.name for failure in FAILURES}

    def fold(name: str) -> str:
        return "Failed" if name in failed else name

    pairs = [("[*]", fold(name)) for name in INITIAL_STATES]
    pairs += [
        (fold(state.name), fold(after))
        for state in STATES
        for after in state.next_states
        if fold(after) != fold(state.name)
    ]
    return [f"  {one} --> {other}" for one, other in dict.fromkeys(pairs)]


def render_failures() -> str:
    """Two tables: what ends an attempt, and what heals inside one."""
    rows = ["| failure | evidence | retry | most | a new attempt gets | what to do |"]
    rows += ["|---|---|---|---|---|---|", *(_render_failure(one) for one in FAILURES)]
    healing = ["| what | evidence | what happens | state |", "|---|---|---|---|"]
    healing += [f"| {one.what} | {one.evidence} | {one.action} | {one.name} |" for one in HEALING]
    return "\n".join(
        [
            _FAILURES_INTRO,
            *rows,
            "",
            "## What does not end an attempt",
            "",
            *healing,
            "",
        ]
    )


def _render_failure(failure: Failure) -> str:
    most = str(failure.most_retries) if failure.most_retries else ""
    cells = (failure.name, failure.evidence, failure.retry, most, failure.change, failure.remedy)
    return f"| {' | '.join(cells)} |"

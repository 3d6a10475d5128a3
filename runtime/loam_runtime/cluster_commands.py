"""`loam wait`, `loam logs`, `loam retry`: a job in a cluster. Nothing heavy is imported early."""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from loam_runtime.cluster_jobs import JobState

NOT_SUCCEEDED = 3  # exit code of `loam wait`: the job failed, is gone, or is not over in time

_POLL_SECONDS = 2.0
_DEFAULT_LINES = 1000

JobName = Annotated[str, typer.Argument(metavar="NAME", help="Of the FineTuneJob.")]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="By default the context's own.", metavar="NS")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def wait(
    name: JobName,
    namespace: Namespace = "",
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait at most; 0 for as long as it takes.", min=0)
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Wait for a job in the cluster; exit code 0 if it succeeded, 3 if not."""
    from loam_runtime.cluster_jobs import ClusterJobs

    jobs = ClusterJobs(namespace)
    deadline = time.monotonic() + timeout if timeout else float("inf")
    seen = state = jobs.read(name)
    _show(state)
    trouble = ""
    while not state.is_over:
        if time.monotonic() >= deadline:
            trouble = f"{name} is not over after {timeout:g} s."
            break
        time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
        try:
            state = jobs.read(name)
        except InputError:
            trouble = f"{name} was deleted."
            break
        if (state.reason, state.summary) != (seen.reason, seen.summary):
            _show(state)
            seen = state
    _end_wait(state, trouble, as_json)


def _show(state: JobState) -> None:
    words = state.summary or state.message
    print(f"{time.strftime('%H:%M:%S')} {state.reason or state.phase}: {words}", file=sys.stderr)


def _end_wait(state: JobState, trouble: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**state.to_dict(), "trouble": trouble}))
    if state.phase == "Succeeded" and not trouble:
        return
    what = trouble or f"{state.name} failed with {state.reason}."
    print(f"Error: {what} {state.message}", file=sys.stderr)
    raise typer.Exit(NOT_SUCCEEDED)


def logs(
    name: JobName,
    namespace: Namespace = "",
    role: Annotated[
        str, typer.Option(help="submitter (the job's own output), head or worker.")
    ] = "",
    lines: Annotated[int, typer.Option(help="The last so many.", min=1)] = _DEFAULT_LINES,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
) -> None:
    """Print a job's log from its running pods, or the lines kept of its last failed attempt."""
    from loam_runtime.cluster_jobs import ClusterJobs

    if role not in ("", "submitter", "head", "worker"):
        raise typer.BadParameter("one of submitter, head, worker", param_hint="--role")
    jobs = ClusterJobs(namespace)
    state = jobs.read(name)
    for wanted in (role,) if role else ("submitter", "head"):
        pod = jobs.find_pod(name, wanted)
        if pod:
            for piece in jobs.stream_log(name, pod, lines, follow):
                print(piece, end="", flush=True)
            return
    if not state.kept_log:
        raise InputError(
            f"{name} has no pod with a log, and none was kept: it is {state.reason or 'new'}.",
            remedy="The log of a finished run is in its output, under runs/<run key>/logs.",
        )
    print(state.kept_log)


def retry(name: JobName, namespace: Namespace = "", as_json: AsJson = False) -> None:
    """Try a failed job again: finished stages, paid answers and checkpoints are kept."""
    from loam_runtime.cluster_jobs import ClusterJobs

    jobs = ClusterJobs(namespace)
    state = jobs.read(name)
    if state.phase != "Failed" or state.reason == "InvalidSpec":
        raise InputError(
            f"{name} is {state.reason or state.phase}: only a failed job can be tried again.",
            remedy="Correct the manifest and create the job under a new name."
            if state.reason == "InvalidSpec"
            else "See `loam wait` for what it does.",
        )
    token = uuid.uuid4().hex[:12]
    jobs.retry(name, token)
    if as_json:
        print(json.dumps({"name": name, "namespace": jobs.namespace, "token": token}))
    else:
        print(f"{name} is tried again; `loam wait {name} -n {jobs.namespace}` shows how it goes.")

"""`loam`: run, synthesize, validate, plan, report, predict, schema; heavy imports come late."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from loam_api.exits import ExitCode
from loam_runtime import cluster_commands, interrupts, review_commands
from loam_runtime.errors import AwaitsReviewError, LoamError

if TYPE_CHECKING:
    from loam_api.problems import Problem

app = typer.Typer(
    help="Fine-tuning as one object: from seed examples to a published, measured adapter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ManifestPath = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="A FineTuneJob manifest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


@app.command()
def run(
    manifest: ManifestPath,
    as_json: AsJson = False,
    metrics_port: Annotated[
        int, typer.Option(help="Serve Prometheus metrics on this port; 0 for none.")
    ] = 0,
) -> None:
    """Run a job here, from seeds to adapter. The same command resumes it after any interruption."""
    from loam_runtime.manifest import load_manifest

    job = load_manifest(manifest)
    from loam_runtime.pipeline import run_job

    outcome = run_job(job, base_dir=manifest.resolve().parent, metrics_port=metrics_port)
    if as_json:
        print(json.dumps(outcome.to_dict()))
    else:
        print(outcome.describe())


@app.command()
def synthesize(
    manifest: ManifestPath,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The rows: a .jsonl or .parquet file.")
    ] = Path("synthetic.jsonl"),
    as_json: AsJson = False,
) -> None:
    """Write a job's synthetic rows to a file, and train nothing. The same command resumes it."""
    from loam_runtime.manifest import load_manifest

    job = load_manifest(manifest)
    from loam_runtime.pipeline import quiet_libraries
    from loam_runtime.synthesis_job import synthesize_job

    quiet_libraries()
    outcome = synthesize_job(job, manifest.resolve().parent, out)
    print(json.dumps(outcome.to_dict()) if as_json else outcome.describe())


@app.command(hidden=True)
def step(manifest: ManifestPath) -> None:
    """Do one step of a job inside a Ray cluster: what the operator starts."""
    from loam_runtime.manifest import load_manifest

    job = load_manifest(manifest)
    from loam_runtime.attempt import read_attempt, run_attempt

    print(run_attempt(job, manifest.resolve().parent, read_attempt()).message)


@app.command()
def validate(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST.yaml...")],
    as_json: AsJson = False,
) -> None:
    """Check jobs and profiles without touching any data; all errors at once."""
    from loam_api.problems import ManifestError, Problem
    from loam_runtime.manifest import check_manifest

    failures: dict[str, list[Problem]] = {}
    for path in manifests:
        try:
            check_manifest(path)
        except ManifestError as error:
            failures[str(path)] = list(error.problems)
        except LoamError as error:
            failures[str(path)] = [Problem("", "", str(error))]
    if as_json:
        problems = {path: [one.to_dict() for one in found] for path, found in failures.items()}
        print(json.dumps({"valid": not failures, "problems": problems}))
    else:
        for path in map(str, manifests):
            _print_problems(path, failures.get(path, []))
    if failures:
        raise typer.Exit(ExitCode.BAD_MANIFEST)


@app.command()
def plan(manifest: ManifestPath, as_json: AsJson = False) -> None:
    """Say what a run would do and why, with its memory, time and teacher cost; starts nothing."""
    from loam_runtime.estimate import describe_plan, estimate_plan
    from loam_runtime.manifest import load_manifest

    resolved = estimate_plan(load_manifest(manifest), manifest.resolve().parent)
    print(json.dumps(resolved.to_dict()) if as_json else describe_plan(resolved))


@app.command()
def report(
    manifest: ManifestPath,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the HTML page here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the verdict of a job's latest run, and write its report page."""
    from loam_runtime.manifest import load_manifest
    from loam_runtime.results import load_latest_run

    job = load_manifest(manifest)
    latest = load_latest_run(job, manifest.resolve().parent)
    _print_notice(latest.describe_stranger(job))
    if output:
        output.write_bytes(latest.read("report.html"))
    print(json.dumps(latest.summary()) if as_json else latest.describe())


@app.command()
def predict(
    manifest: ManifestPath,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Inputs to answer.")],
    as_json: AsJson = False,
) -> None:
    """Try the adapter of a job's latest run on inputs of your own."""
    from loam_runtime.manifest import load_manifest
    from loam_runtime.results import answer_texts, load_latest_run

    job, base_dir = load_manifest(manifest), manifest.resolve().parent
    latest = load_latest_run(job, base_dir)
    _print_notice(latest.describe_stranger(job))
    answers = answer_texts(latest, job, base_dir, texts)
    if as_json:
        print(json.dumps([{"input": t, "answer": a} for t, a in zip(texts, answers, strict=True)]))
    else:
        print("\n".join(answers))


@app.command()
def schema() -> None:
    """Print the JSON schema of a manifest, for editors and CI."""
    from loam_api.crd import build_manifest_schema

    print(json.dumps(build_manifest_schema(), indent=2))


for _command in (
    review_commands.approve,
    review_commands.reject,
    cluster_commands.wait,
    cluster_commands.logs,
    cluster_commands.retry,
):
    app.command()(_command)


def _print_problems(path: str, problems: Sequence[Problem]) -> None:
    if not problems:
        print(f"{path}: valid")
    for problem in problems:
        print(f"{path}: {problem}", file=sys.stderr)


def _print_notice(text: str) -> None:
    if text:
        print(text, file=sys.stderr)


def main() -> NoReturn:
    """Entry point: runs a command and turns every expected failure into its exit code."""
    from loam_api.problems import ManifestError

    interrupts.install()
    try:
        # Without standalone mode typer does not exit by itself; it returns 130 for Ctrl-C.
        code = app(standalone_mode=False) or ExitCode.DONE
    except typer.TyperException as error:  # a wrong command line
        error.show()
        sys.exit(ExitCode.BAD_MANIFEST)
    except ManifestError as error:
        _print_problems("The manifest is not valid", error.problems)
        sys.exit(ExitCode.BAD_MANIFEST)
    except LoamError as error:
        word = "Waiting" if isinstance(error, AwaitsReviewError) else "Error"
        print(f"{word}: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"What to do: {error.remedy}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    if code == ExitCode.INTERRUPTED:
        print("Interrupted. The same command goes on where this one stopped.", file=sys.stderr)
    sys.exit(code)

"""The charts of the report, drawn from its data."""

from __future__ import annotations

from markupsafe import Markup

from loam_runtime.report.charts import (
    Bar,
    IntervalRow,
    Line,
    compute_ticks,
    draw_bars,
    draw_intervals,
    draw_lines,
    smooth,
)
from loam_runtime.report.data import (
    DataPart,
    Evaluation,
    QualityPart,
    StageTime,
    SynthesisPart,
    TrainingPart,
)
from loam_runtime.report.formats import (
    format_count,
    format_score,
    format_seconds,
    is_share,
    title_metric,
)

_MIN_STEPS_TO_SMOOTH = 20


def draw_scores(evaluation: Evaluation) -> Markup:
    """The primary metric of every model that has it."""
    metric = evaluation["primary_metric"]
    rows = [
        IntervalRow(
            model["name"],
            **score,
            text=format_score(score["value"], metric),
            is_emphasised=model["is_fine_tuned"],
        )
        for model in evaluation["models"]
        if (score := model["metrics"].get(metric))
    ]
    if not rows:
        return Markup("")
    words = "; ".join(
        f"{row.name} {row.text}, from {format_score(row.low, metric)} "
        f"to {format_score(row.high, metric)}"
        for row in rows
    )
    return draw_intervals(
        rows,
        _choose_score_ticks(rows, metric),
        chart_id="scores",
        title=f"{title_metric(metric)} on the test rows, with 95 % intervals",
        description=words,
    )


def _choose_score_ticks(rows: list[IntervalRow], metric: str) -> dict[float, str]:
    """Shares always from 0 to 100 %, so that charts of several runs compare at a glance."""
    if is_share(metric):
        return {share: f"{share:.0%}" for share in (0, 0.25, 0.5, 0.75, 1)}
    ticks = compute_ticks(min(row.low for row in rows), max(row.high for row in rows))
    return {tick: f"{tick:g}" for tick in ticks}


def draw_losses(training: TrainingPart) -> Markup:
    """Training loss of every step and validation loss where it was measured."""
    losses = training["losses"]
    raw = list(enumerate(losses, start=1))
    lines = [Line("Training", raw, "line train")]
    if len(losses) >= _MIN_STEPS_TO_SMOOTH:
        means = smooth(losses, max(3, len(losses) // 12))
        lines = [
            Line("", raw, "line train faint"),
            Line("Training, running mean", list(enumerate(means, start=1)), "line train"),
        ]
    validation = [(float(step), loss) for step, loss in training["validation"]]
    if validation:
        lines.append(Line("Validation", validation, "line validation", has_dots=True))
    words = f"{len(losses)} steps"
    if losses:
        words += f", training loss from {losses[0]:.3g} to {losses[-1]:.3g}"
    if validation:
        words += f", last validation loss {validation[-1][1]:.3g}"
    return draw_lines(
        lines,
        chart_id="losses",
        title="Loss by optimizer step, nats per supervised token",
        description=words,
        x_label="Optimizer step",
    )


def draw_funnel(data: DataPart, synthesis: SynthesisPart | None) -> Markup:
    """From the user's rows to the rows that were trained on."""
    bars = [
        Bar("Seed rows", data["num_seed_rows"], format_count(data["num_seed_rows"]), "bar muted"),
        Bar("Training rows", data["num_train_rows"], format_count(data["num_train_rows"])),
    ]
    if synthesis:
        generated = synthesis["num_generated"]
        bars.append(Bar("Generated", generated, format_count(generated), "bar muted"))
        bars += [
            Bar(f"Rejected: {reason}", count, format_count(count), "bar rejected")
            for reason, count in sorted(synthesis["rejected"].items(), key=lambda item: -item[1])
        ]
        bars.append(Bar("Kept", synthesis["num_kept"], format_count(synthesis["num_kept"])))
    words = "; ".join(f"{bar.name}: {bar.text}" for bar in bars)
    return draw_bars(bars, chart_id="funnel", title="Rows at each step", description=words)


def draw_roc(quality: QualityPart) -> Markup:
    """The quality classifier's ROC curve beside that of a coin."""
    points = [(100 * bad, good) for bad, good in quality["roc"]]
    auc = quality["auc"]
    return draw_lines(
        [
            Line("Quality classifier", points, "line train"),
            Line("Chance", [(0.0, 0.0), (100.0, 1.0)], "line validation"),
        ],
        chart_id="roc",
        title="Good rows kept by bad rows kept, on held-out seeds",
        description=f"Area under the curve {auc['value']:.2f}, from {auc['low']:.2f} to "
        f"{auc['high']:.2f}",
        x_label="bad rows kept, %",
    )


def draw_stages(stages: list[StageTime]) -> Markup:
    """Wall time by stage."""
    bars = [
        Bar(stage["name"], stage["seconds"], format_seconds(stage["seconds"])) for stage in stages
    ]
    words = "; ".join(f"{bar.name}: {bar.text}" for bar in bars)
    return draw_bars(bars, chart_id="stages", title="Time by stage", description=words)

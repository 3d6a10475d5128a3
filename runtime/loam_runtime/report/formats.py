"""Numbers and names as a reader of the report wants them."""

from __future__ import annotations

import math
import re

_METRIC_TITLES = {
    "accuracy": "Accuracy",
    "macroF1": "Macro-F1",
    "accuracyRaw": "Accuracy, not calibrated",
    "macroF1Raw": "Macro-F1, not calibrated",
    "accuracyCalibrated": "Accuracy, calibrated",
    "macroF1Calibrated": "Macro-F1, calibrated",
    "generationAccuracy": "Accuracy of written answers",
    "generationMacroF1": "Macro-F1 of written answers",
    "invalidRate": "Answers that are no label (lower is better)",
    "exactMatch": "Exact match",
    "tokenF1": "Token F1",
    "rougeL": "ROUGE-L",
    "emptyRate": "Empty answers (lower is better)",
    "logLoss": "Loss, nats per token (lower is better)",
}
_UNBOUNDED_METRICS = {"logLoss"}  # all others lie in [0, 1]
MISSING = "n/a"
MAX_TEXT = 400  # characters of a user's row that the page shows


def format_share(value: float | None) -> str:
    """A value in [0, 1] as a percentage with one decimal."""
    return f"{value:.1%}" if _is_number(value) else MISSING


def is_share(metric: str) -> bool:
    """Whether a metric lies in [0, 1] and reads as a percentage."""
    return metric not in _UNBOUNDED_METRICS


def format_score(value: float | None, metric: str) -> str:
    """A metric's value in its own unit."""
    return format_share(value) if is_share(metric) else format_number(value)


def format_difference(value: float | None, metric: str) -> str:
    """A difference between two scores, with its sign; shares differ by percentage points."""
    if not _is_number(value):
        return MISSING
    return f"{100 * value:+.1f} points" if is_share(metric) else f"{value:+.3g}"


def format_count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return f"{value:,.0f}" if _is_number(value) else MISSING


def format_seconds(value: float | None) -> str:
    """A time of any size: "0.45 ms", "45 ms", "4.5 s", "4 min 5 s", "1 h 2 min"."""
    if not _is_number(value):
        return MISSING
    if value < 1:
        milliseconds = 1000 * value
        return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_bytes(value: float | None) -> str:
    """A size in binary units."""
    if not _is_number(value):
        return MISSING
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def format_number(value: float | None) -> str:
    """Any number, to three digits."""
    if not _is_number(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def title_metric(name: str) -> str:
    """The name of a metric as its heading."""
    if name in _METRIC_TITLES:
        return _METRIC_TITLES[name]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).capitalize()


def shorten(text: str) -> str:
    """The start of a long text, with how much was left out."""
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT:,} more characters)"


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)

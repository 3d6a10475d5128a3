"""The report: one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loam_runtime.report import figures, formats
from loam_runtime.report.data import ReportData, ReviewPage, Verdict

# No place of HTML may hold these: C0 controls but tab, newline and return, and lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def build_report(data: ReportData) -> str:
    """The page as text, to be written as UTF-8. The same data give the same page.

    Everything in `data` is taken for hostile text and escaped.
    """
    clean = cast(ReportData, _clean(data))
    evaluation, training = clean["evaluation"], clean["training"]
    return (
        _load_environment()
        .get_template("page.html.j2")
        .render(
            report=clean,
            style=_read_style(),
            verdict_kind=_classify_verdict(clean["verdict"]),
            scores_chart=figures.draw_scores(evaluation) if evaluation else "",
            losses_chart=figures.draw_losses(training) if training else "",
            funnel_chart=figures.draw_funnel(clean["data"], clean["synthesis"]),
            roc_chart=_draw_roc(clean),
            stages_chart=figures.draw_stages(clean["stages"]) if clean["stages"] else "",
        )
    )


def build_review_page(page: ReviewPage) -> str:
    """The page of a sample that waits for a person; escaped like the report."""
    clean = _clean(page)
    return (
        _load_environment().get_template("review.html.j2").render(page=clean, style=_read_style())
    )


def _draw_roc(report: ReportData) -> Markup:
    quality = report["synthesis"]["quality"] if report["synthesis"] else None
    return figures.draw_roc(quality) if quality else Markup("")


def _classify_verdict(verdict: Verdict | None) -> str:
    """How the page colours the verdict: "won", "lost", "open" or "unknown"."""
    if verdict is None or not verdict["is_assessable"]:
        return "unknown"
    return {True: "won", False: "lost", None: "open"}[verdict["wins"]]


@lru_cache(maxsize=1)
def _load_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("loam_runtime.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": formats.format_share,
        "score": formats.format_score,
        "difference": formats.format_difference,
        "count": formats.format_count,
        "duration": formats.format_seconds,
        "size": formats.format_bytes,
        "number": formats.format_number,
        "metric": formats.title_metric,
        "shorten": formats.shorten,
    }
    return environment


@lru_cache(maxsize=1)
def _read_style() -> Markup:
    text = files("loam_runtime.report").joinpath("templates", "style.css").read_text("utf-8")
    return Markup(text)


def _clean(value: Any) -> Any:
    """The same JSON value with characters replaced that HTML cannot hold."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub(_REPLACEMENT, value)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value

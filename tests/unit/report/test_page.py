from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.tools.cases import count_cases
from tests.unit.report.sample_report import build_evaluation, build_sample_report

from loam_runtime.report.build import build_report

ALLOWED_ATTRIBUTES = {
    *("id", "class", "lang", "charset", "http-equiv", "content", "name", "dir", "datetime"),
    *("scope", "tabindex", "role", "aria-label", "aria-labelledby", "style"),
    *("viewbox", "width", "height", "points", "x", "y", "x1", "x2", "y1", "y2"),
    *("cx", "cy", "r", "rx", "text-anchor"),
}
HOSTILE = [
    "</style><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'--><!--",
    "{{ 7 * 7 }}{% raw %}",
    "\x00\x01\ud800",
    "\u202egnp.exe\u2066 \u05d0\u05d1",
    "]]></title></desc></svg>",
    "&lt;b&gt; &amp;",
    "a" * 5000,
    "\r\n\t ",
]


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_comment(self, data):
        self.tags.append("<!--")

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def replace_strings(value, text):
    """The same JSON value with every string, keys of scores and reasons too, made hostile."""
    if isinstance(value, str):
        return text
    if isinstance(value, list | tuple):
        return [replace_strings(item, text) for item in value]
    if isinstance(value, dict):
        return {key: replace_strings(item, text) for key, item in value.items()}
    return value


def build_hostile_report(text: str) -> dict:
    report = replace_strings(build_sample_report(), text)
    scores = report["evaluation"]["models"][0]["metrics"]
    for model in report["evaluation"]["models"]:
        model["metrics"] = {text: scores["accuracy"]}
    report["synthesis"]["rejected"] = {text: 3}
    return report


BENIGN_TAGS = set(Page(build_report(build_sample_report())).tags)


@settings(deadline=None, max_examples=count_cases(60))
@given(st.text())
@example(HOSTILE[0])
@example(HOSTILE[1])
@example(HOSTILE[2])
@example(HOSTILE[3])
@example(HOSTILE[4])
@example(HOSTILE[5])
@example(HOSTILE[6])
@example(HOSTILE[7])
@example(HOSTILE[8])
@example(HOSTILE[9])
@example(HOSTILE[10])
def test_no_text_adds_a_tag_or_an_attribute(text):
    """A row of training data must not run in the browser of who opens the report."""
    html = build_report(build_hostile_report(text))
    page = Page(html)
    assert set(page.tags) <= BENIGN_TAGS
    assert page.tags.count("style") == 1
    assert {name for _, name, _ in page.attributes} <= ALLOWED_ATTRIBUTES
    styles = {value for _, name, value in page.attributes if name == "style"}
    assert all(re.fullmatch(r"--share: [01]\.\d\d", style) for style in styles)
    html.encode("utf-8")
    assert "\x00" not in html


@pytest.mark.parametrize("text", HOSTILE[:5])
def test_hostile_text_is_shown_as_it_is(text):
    """Escaping once, not twice and not away: the reader sees what the row holds."""
    assert text in Page(build_report(build_sample_report(job=text))).text


def test_the_page_needs_nothing_else():
    """It is opened from a bucket or an e-mail, years later and without network."""
    html = build_report(build_sample_report())
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form", "a"} & set(page.tags)
    assert not {"src", "href", "action", "background"} & {name for _, name, _ in page.attributes}
    assert "url(" not in html
    assert "@import" not in html
    policies = [value for tag, name, value in page.attributes if value.startswith("default-src")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert html.index("Content-Security-Policy") < html.index("<style>")


def test_everything_the_run_did_is_on_the_page():
    """A part that silently drops out of the template would not be missed by anyone else."""
    report = build_sample_report()
    text = " ".join(Page(build_report(report)).text.split())
    expected = [
        report["verdict"]["text"],
        "+18.3 points",
        "Majority class",
        "90.0%",
        "duplicate of another row",
        "label not confirmed: technical is likelier",
        "Why is there a fee on my invoice?",
        "No seed asks a question.",
        "Each input gets one of 5 labels.",
        "short, about 4 words",
        "Where is my refund?",
        "after step 90",
        "1.75 GiB",
        "6 min 24 s in all",
        "348 ms",
        "QLoRA with rank 16",
        "sha256:3f9a7c12",
        "not trusted for the label account",
        report["judge"]["text"],
        report["judge"]["trust_note"],
        "70.4%",
        "66, 37, 17",
        "21 of 120 rows (17.5%)",
        "Only A says when the money comes.",
        "tie: the orders differ",
        "seeds.jsonl",
    ]
    assert [part for part in expected if part not in text] == []


def test_what_the_adapter_costs_is_beside_its_base():
    """Serving the adapter unmerged may be too slow: the overhead must be read off, not guessed."""
    text = " ".join(Page(build_report(build_sample_report())).text.split())
    assert "Time by that of the base model" in text
    assert "20 for each way" in text
    assert "Adapter on the base model212 ms348 ms18.91.13 1.08 to 1.19" in text


def test_missing_parts_are_said_in_a_sentence():
    """An empty box reads as a broken report; each absence has a reason the reader can act on."""
    report = build_sample_report(
        verdict=None,
        evaluation=None,
        training=None,
        synthesis=None,
        stages=[],
        usage=[],
        plan=[],
        warnings=[],
        lineage=[],
    )
    html = build_report(report)
    text = " ".join(Page(html).text.split())
    for sentence in (
        "There is no verdict: this run measured nothing.",
        "There were no test rows, so nothing could be measured.",
        "This run trained nothing.",
        "No synthetic rows were asked for",
        "No stage's time was recorded.",
        "Latency was not measured",
        "nothing had to be chosen",
    ):
        assert sentence in text
    assert "To keep in mind" not in text


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"wins": True}, "won"),
        ({"wins": False}, "lost"),
        ({"wins": None}, "open"),
        ({"wins": None, "is_assessable": False, "difference": None}, "unknown"),
    ],
)
def test_the_verdict_has_the_colour_of_its_words(changes, kind):
    """Green beside "fine-tuning was not worth it" would be believed before the sentence."""
    report = build_sample_report()
    report["verdict"] |= changes
    assert f'<section class="verdict {kind}"' in build_report(report)


def test_a_loss_is_not_shown_as_a_percentage():
    """Plain text is judged by its loss in nats: 2.31 must not read as 231 %, nor leave the axis."""
    report = build_sample_report()
    loss = {"value": 2.31, "low": 2.2, "high": 2.43}
    for model in report["evaluation"]["models"]:
        model["metrics"] = {"logLoss": loss}
    report["evaluation"]["primary_metric"] = "logLoss"
    report["verdict"]["difference"] = {"value": -0.4, "low": -0.5, "high": -0.3}
    html = build_report(report)
    assert "<strong>2.31</strong>" in html
    assert "<strong>-0.4</strong>" in html
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', html)]
    assert places
    assert max(places) < 480


def test_a_judge_that_judged_nothing_is_told_without_figures():
    """No table of zeros under a judge that was not trusted, and no section where none was asked:
    either would read as a result."""
    words = "The judge j is not trusted and decides nothing"
    counts = dict.fromkeys(("win", "tie", "loss", "unreadable", "unanswered"), 0)
    judge = {
        **build_sample_report()["judge"],
        "text": words,
        "is_assessable": False,
        "num_judged": 0,
        "counts": counts,
        "win_rate": None,
        "samples": [],
    }
    html = build_report(build_sample_report(judge=judge))
    assert words in html
    assert "Win rate" not in html
    assert "Judge of answers" not in build_report(build_sample_report(judge=None))


def test_tasks_without_labels_have_no_matrix():
    """A confusion matrix of free text would be one row a test case."""
    evaluation = build_evaluation() | {"confusion": None}
    assert "Confusion matrix" not in build_report(build_sample_report(evaluation=evaluation))


def test_report_survives_json_and_is_repeatable():
    """`loam report` builds the page again from report.json: the same bytes, whatever the day."""
    report = build_sample_report()
    before = copy.deepcopy(report)
    html = build_report(report)
    assert report == before
    assert build_report(json.loads(json.dumps(report))) == html


def test_numbers_that_are_not_finite_do_not_break_the_page():
    """A diverged run is exactly the one whose report is read most closely."""
    report = build_sample_report()
    report["training"]["losses"] = [1.0, float("nan"), float("inf"), 0.5]
    report["training"]["validation"] = [(2, float("nan"))]
    report["training"]["tokens_per_second"] = float("nan")
    html = build_report(report)
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<desc.*?</desc>", "", html))


def test_structure_is_accessible():
    """Screen readers go by headings, table scopes, captions and the charts' descriptions."""
    page = Page(build_report(build_sample_report()))
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    scoped = sum(name == "scope" for _, name, _ in page.attributes)
    assert page.tags.count("th") == scoped
    assert page.tags.count("table") == page.tags.count("caption")
    assert page.tags.count("svg") == page.tags.count("desc") == 5
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for _, name, value in page.attributes:
        if name == "aria-labelledby":
            assert set(value.split()) <= set(ids)


def compute_contrast(first: str, second: str) -> float:
    """Contrast ratio of two #rrggbb colours by WCAG 2."""

    def luminance(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes(theme):
    """WCAG AA asks for 4.5; a colour tuned for one theme is the usual slip in the other."""
    css = files("loam_runtime.report").joinpath("templates", "style.css").read_text("utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[theme == "dark"]))
    for name in ("ink", "soft", "accent", "second", "good", "bad", "open"):
        for ground in ("card", "page"):
            assert compute_contrast(colours[name], colours[ground]) >= 4.5, (name, ground)

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from loam_runtime.export.adapter import BaseModel
from loam_runtime.export.card import CardFacts, escape_markdown, render_card
from loam_runtime.export.licenses import License

ESTIMATE = {"value": 0.9, "low": 0.81, "high": 0.95}


def build_facts(**changes) -> CardFacts:
    facts = {
        "name": "tickets",
        "base": BaseModel(
            "hf://org/tiny", "", "ab" * 32, "nf4", License("apache-2.0", "its README.md")
        ),
        "task": "classification",
        "method": "qlora",
        "verdict": "Fine-tuning was worth it.",
        "num_seed_rows": 96,
        "labels": ("billing", "delivery"),
        "metrics": (
            {"name": "Fine-tuned", "values": {"accuracy": ESTIMATE, "macroF1": ESTIMATE}},
            {"name": "Majority", "values": {"accuracy": ESTIMATE}},
        ),
        "num_test_rows": 120,
        "num_synthetic_rows": 240,
        "teacher": "the base model",
    }
    return CardFacts(**(facts | changes))


def split_card(card: str) -> tuple[dict, str]:
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def test_card_has_what_hubs_and_readers_look_for():
    """Base, licence, verdict, intervals, data: without them nobody can judge the adapter."""
    front, body = split_card(render_card(build_facts()))
    assert front["base_model"] == "org/tiny"
    assert front["base_model_relation"] == "adapter"
    assert front["library_name"] == "peft"
    assert front["license"] == "apache-2.0"
    html = MarkdownIt().enable("table").render(body)
    for part in ("Fine-tuning was worth it.", "0.900 [0.810, 0.950]", "240 synthetic rows"):
        assert part in html
    assert html.count("<tr>") == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", {"license": "other", "license_name": "see-base-model"}),
        ("Gemma Terms of Use", {"license": "other", "license_name": "Gemma Terms of Use"}),
    ],
)
def test_unknown_and_named_licences_are_not_invented(name, expected):
    """A wrong licence on a derived model is worse than none; a reader is told who says it."""
    base = BaseModel("file:///m", "", "", "fp32", License(name, "the header of m", "https://x.y/t"))
    front, body = split_card(render_card(build_facts(base=base)))
    assert expected.items() <= front.items()
    assert front["license_link"] == "https://x.y/t"
    assert f"Base model: {name or 'not stated'} \\(the header of m, https://x.y/t\\)" in body
    assert ("see the base model's terms" in body) == (not name)


def test_a_card_without_measurement_says_so():
    """No test rows: the card must not show an empty table as if something were known."""
    facts = build_facts(metrics=(), num_test_rows=0, num_synthetic_rows=0, method="full")
    front, body = split_card(render_card(facts))
    assert "It was not measured" in body
    assert "synthetic" not in body
    assert front["library_name"] == "transformers"


@given(st.text())
@example("<script>alert(1)</script>")
@example("[click](javascript:x) ![](y) **bold** `code` <b>")
@example("x\n\n# Heading\n\n<div>")
@example("| a | b |")
def test_user_text_cannot_add_markup(text):
    """Hubs render the card: a user's description must not become HTML, links or headings."""
    html = MarkdownIt("commonmark").enable("table").render("x " + escape_markdown(text))
    assert html.count("<") == 2  # the paragraph alone
    facts = build_facts(description=text, labels=(text,), verdict=text, teacher=text)
    tokens = MarkdownIt("commonmark").enable("table").parse(split_card(render_card(facts))[1])
    assert "html_block" not in {token.type for token in tokens}
    assert sum(token.type == "heading_open" for token in tokens) == 6


@given(st.text(st.characters(codec="utf-8")))
@example("\x85")
def test_front_matter_survives_any_name(text):
    """A model URI with a colon, a quote or a newline must not break or extend the YAML."""
    base = BaseModel(f"file:///{text}", "", "", "fp32", License(text, text, text))
    card = render_card(build_facts(base=base))
    front = yaml.safe_load(card[4:].partition("\n---\n")[0])
    assert front["base_model"] == f"file:///{text}"

"""Target languages, for cross-lingual transfer."""

from __future__ import annotations

from tests.unit.synthesis.conftest import make_example

from loam_api.filters_block import Filters
from loam_runtime.synthesis.filters.registry import build_judges
from loam_runtime.synthesis.languages import name_language
from loam_runtime.synthesis.strategies.base import TaskBrief


def test_target_languages_pass() -> None:
    """Rows bought in a target language are not thrown away for not being in the seeds'."""
    seeds = tuple(
        make_example(f"the invoice of this month shows a wrong amount again, {n}", "a")
        for n in range(5)
    )
    german = make_example("die Rechnung von diesem Monat zeigt wieder einen falschen Betrag", "a")
    french = make_example("la facture de ce mois montre encore un montant qui est faux", "a")
    brief = TaskBrief(seeds, is_classification=True, languages={"de": 1.0})
    judges = build_judges(
        brief,
        Filters(),
        held_out={},
        quality_threshold=0.5,
    )
    (language,) = (judge for judge in judges if judge.name == "language")
    assert [bool(verdict.reason) for verdict in language.judge([german, french])] == [False, True]


def test_names() -> None:
    """A teacher reads names; a code it might not know is said to be one."""
    assert name_language("sw") == "Swahili"
    assert "ISO 639-1" in name_language("xx")

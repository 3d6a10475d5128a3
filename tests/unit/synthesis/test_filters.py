"""Which rows are dropped, and why."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.tiny_models import build_tiny_tokenizer

from loam_api.filters_block import Filters
from loam_runtime.data.contamination import extract_grams
from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.data.prompt import PromptContract
from loam_runtime.errors import InputError
from loam_runtime.synthesis.filters import embedding_duplicates
from loam_runtime.synthesis.filters.base import FilterChain, Verdict
from loam_runtime.synthesis.filters.consistency import ConsistencyFilter
from loam_runtime.synthesis.filters.contamination import ContaminationFilter
from loam_runtime.synthesis.filters.corruptions import corrupt_seed
from loam_runtime.synthesis.filters.duplicates import ExactDuplicateFilter
from loam_runtime.synthesis.filters.embedding_duplicates import EmbeddingDuplicateFilter
from loam_runtime.synthesis.filters.language import LanguageFilter
from loam_runtime.synthesis.filters.length import LengthFilter, measure_bounds
from loam_runtime.synthesis.filters.near_duplicates import NearDuplicateFilter
from loam_runtime.synthesis.filters.personal_data import PersonalDataFilter, find_personal_data
from loam_runtime.synthesis.filters.quality import PRIOR_GOOD, QualityFilter
from loam_runtime.synthesis.filters.registry import (
    build_judges,
    build_validity_filters,
    read_settings,
)
from loam_runtime.synthesis.strategies.base import TaskBrief

LABELS = ("negative", "positive")
MEANINGS = {
    "payment": (
        "I was charged twice this month.",
        "My credit card was debited without a reason.",
        "The invoice shows the wrong amount.",
        "Please refund the fee for the premium plan.",
        "Why does the price include a tax that I do not owe?",
        "The discount code was not subtracted.",
        "You took money after I had cancelled.",
        "I need a receipt for my purchase.",
        "The direct debit came too early.",
    ),
    "transport": (
        "My parcel has not arrived yet.",
        "The courier left the box at the wrong door.",
        "The package was damaged on the way.",
        "When will the shipment be handed over?",
        "The tracking number does not work.",
        "Nobody was home when the driver came.",
        "It has been lying in the depot for a week.",
        "The van never stopped at our house.",
        "Can the delivery be moved to Friday?",
    ),
}


def row(input_text: str, target: str = "x", number: int = 0) -> Example:
    return Example(f"{input_text}/{target}/{number}", input_text, target, origin="synthetic")


class TestDuplicates:
    @pytest.mark.parametrize("kind", [ExactDuplicateFilter, NearDuplicateFilter])
    def test_seeds_and_earlier_rows(self, kind) -> None:
        """Copies of seeds and of earlier rows go, in whatever case and spacing; the reason names
        the one that stays."""
        seed = row("The parcel never arrived at my door")
        filter_ = kind([seed], is_classification=True)
        rows = [
            row("the  parcel NEVER arrived at my door"),
            replace(row("An entirely different complaint about billing"), source="draw 3, row 1"),
            row("an entirely different complaint about billing"),
        ]
        first, second, third = (verdict.reason for verdict in filter_.judge(rows))
        assert first.endswith("equal to a seed")
        assert second == ""
        assert third.endswith("equal to draw 3, row 1")

    @pytest.mark.parametrize("kind", [ExactDuplicateFilter, NearDuplicateFilter])
    def test_one_passage_two_questions(self, kind) -> None:
        """Outside classification, equal inputs with different answers are different rows."""
        filter_ = kind([], is_classification=False)
        rows = [row("short", "a long and particular answer"), row("short", "something else")]
        assert [verdict.reason for verdict in filter_.judge(rows)] == ["", ""]

    @given(
        st.text("abcdefghij ", min_size=15, max_size=40),
        st.lists(
            st.lists(st.tuples(st.integers(0, 39), st.sampled_from("abcxyz")), max_size=2),
            min_size=1,
            max_size=10,
        ),
    )
    @settings(derandomize=True)  # one pair in 2,800 may be missed: not today, and here, by chance
    def test_search_is_nearly_exact(self, base: str, edits: list[list[tuple[int, str]]]) -> None:
        """The index finds what comparing all pairs finds, and nothing below the threshold is
        dropped: a sketch alone would misjudge short texts both ways, in silence."""
        texts = [base, *(_edit(base, changes) for changes in edits)]
        filter_ = NearDuplicateFilter([row(texts[0])], is_classification=True)
        found = [bool(verdict.reason) for verdict in filter_.judge(list(map(row, texts[1:])))]
        known = [normalize_text(texts[0])]
        for text, is_found in zip(map(normalize_text, texts[1:]), found, strict=True):
            expected = any(_is_similar(text, other) for other in known)
            assert is_found == expected
            if not expected:
                known.append(text)


def _edit(text: str, changes: list[tuple[int, str]]) -> str:
    letters = list(text)
    for place, letter in changes:
        letters[place % len(letters)] = letter
    return "".join(letters)


def _is_similar(first: str, second: str) -> bool:
    a, b = extract_grams(first), extract_grams(second)
    return first == second or len(a & b) * 5 >= len(a | b) * 4


class TestEmbeddingDuplicates:
    """With vectors given by hand: the rule, not the model."""

    VECTORS: ClassVar = {
        "a": (1, 0),
        "a again": (0.96, 0.28),
        "b": (0, 1),
        "x": (0, 1),
        "y": (1, 0),
    }

    def judge(self, seeds: list[Example], rows: list[Example], **options) -> list[str]:
        def embed(texts: Sequence[str]) -> np.ndarray:
            return np.array([self.VECTORS[text] for text in texts], np.float32).reshape(-1, 2)

        filter_ = EmbeddingDuplicateFilter(seeds, embed, similarity=0.95, **options)
        return [verdict.reason for verdict in filter_.judge(rows)]

    def test_seeds_and_earlier_rows(self) -> None:
        """A row close to a seed goes, and so does one close to a row that was kept."""
        rows = [replace(row("a"), source="draw 0, row 1"), row("a again"), row("b")]
        assert self.judge([row("b")], rows, is_classification=True) == [
            "",
            "means the same as draw 0, row 1",
            "means the same as a seed",
        ]

    def test_dropped_rows_do_not_drop(self) -> None:
        """A row close to a dropped row alone stays: else paraphrases, each near the last one,
        would take all that lies between them."""
        angles = {"a": 0.0, "a again": 0.3, "b": 0.6}  # cosines of neighbours 0.96, of ends 0.83
        vectors = {text: (np.cos(angle), np.sin(angle)) for text, angle in angles.items()}
        filter_ = EmbeddingDuplicateFilter(
            [],
            lambda texts: np.array([vectors[text] for text in texts], np.float32).reshape(-1, 2),
            similarity=0.95,
            is_classification=True,
        )
        verdicts = filter_.judge([row(text) for text in angles])
        assert [bool(verdict.reason) for verdict in verdicts] == [False, True, False]

    def test_targets_count_where_they_are_texts(self) -> None:
        """The same question with another answer is another row, except where the target is a
        label: questions on one passage are close, since the passage is most of each."""
        rows = [row("a", "x"), row("a again", "y")]
        assert self.judge([], rows, is_classification=False) == ["", ""]
        assert self.judge([], rows, is_classification=True)[1]

    @pytest.mark.parametrize("size", [1, 255, 256, 257])
    def test_blocks(self, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rows are compared across blocks of the search as within one."""
        monkeypatch.setattr(embedding_duplicates, "_BLOCK", 256)
        rows = [row("a")] * size + [row("b")]
        assert [bool(it) for it in self.judge([], rows, is_classification=True)] == [
            False,
            *[True] * (size - 1),
            False,
        ]


class TestLength:
    SEEDS: ClassVar = [row("x" * length, "y") for length in (40, 44, 48, 50, 50, 52, 56, 60)]

    @pytest.mark.parametrize(
        ("length", "is_kept"), [(13, False), (14, True), (50, True), (180, True), (181, False)]
    )
    def test_bounds(self, length: int, is_kept: bool) -> None:
        """A third of the shortest seed to thrice the longest stays, whatever the deviation; a row
        beyond, in another register (a word, an essay), goes."""
        filter_ = LengthFilter(self.SEEDS, is_classification=True)
        assert (filter_.judge([row("x" * length)])[0].reason == "") == is_kept

    def test_seeds_pass(self) -> None:
        """No seed is an outlier among the seeds, not even a lone long one."""
        seeds = [*self.SEEDS, row("x" * 4000)]
        assert not any(it.reason for it in LengthFilter(seeds, is_classification=True).judge(seeds))

    def test_spread_seeds_allow_more(self) -> None:
        """Where the seeds' own lengths differ widely, more than thrice the longest is no outlier:
        the bounds follow the distribution, not its ends alone."""
        bounds = measure_bounds(["x" * length for length in (10, 20, 30, 40, 50, 60, 70, 80)])
        assert bounds is not None
        assert bounds.high > 3 * 80

    def test_targets_that_are_texts(self) -> None:
        """An answer of one word among answers of fifty is seen; a label's length says nothing."""
        seeds = [row("q" * 30, "x" * length) for length in (40, 45, 50, 50, 50, 55, 60, 60)]
        short = row("q" * 30, "x")
        assert "target" in LengthFilter(seeds, is_classification=False).judge([short])[0].reason
        assert not LengthFilter(seeds, is_classification=True).judge([short])[0].reason

    def test_short_seeds(self) -> None:
        """Seeds of a word or two do not make an ordinary sentence an outlier."""
        filter_ = LengthFilter([row("yes please")] * 9, is_classification=True)
        assert not filter_.judge([row("x" * 80)])[0].reason
        assert filter_.judge([row("x" * 81)])[0].reason

    def test_few_seeds(self) -> None:
        """Seven seeds are no distribution: nothing is judged."""
        filter_ = LengthFilter(self.SEEDS[:7], is_classification=True)
        assert not filter_.judge([row("x" * 9999)])[0].reason


class TestLanguage:
    SEEDS: ClassVar = [
        row("The parcel never arrived at my door and nobody answers the phone."),
        row("I was charged twice for the same order this month."),
        row("Who was Galileo ?"),
    ]
    SPANISH = "El paquete nunca llegó a mi puerta y nadie contesta el teléfono."

    def test_other_language_goes(self) -> None:
        """Rows in plain Spanish leave an English set."""
        filter_ = LanguageFilter(self.SEEDS, is_classification=True)
        assert filter_.judge([row(self.SPANISH)])[0].reason == 'written in language "es"'
        assert filter_.describe() == {"languages": ["en"]}

    @pytest.mark.parametrize(
        "text",
        ["Who was Galileo ?", "What is a nematode ?", "my parcel", "SELECT name FROM users", "42",
         "THE COURIER LEFT IT AT THE WRONG DOOR", "What does NATO stand for ?"],
    )  # fmt: skip
    def test_short_texts_stay(self, text: str) -> None:
        """A short text may look like any language (Zulu, Polish): it is not dropped for that."""
        filter_ = LanguageFilter(self.SEEDS, is_classification=True)
        assert not filter_.judge([row(text)])[0].reason

    def test_named_languages(self) -> None:
        """For cross-lingual transfer the languages are named, and the seeds' own goes."""
        filter_ = LanguageFilter(self.SEEDS, languages=["es"], is_classification=True)
        verdicts = filter_.judge([row(self.SPANISH), self.SEEDS[0]])
        assert [verdict.reason for verdict in verdicts] == ["", 'written in language "en"']

    def test_seeds_without_a_language(self) -> None:
        """Where the seeds are no language (codes), nothing is dropped for its language."""
        filter_ = LanguageFilter([row("XK-4411"), row("ZZ-17")], is_classification=True)
        assert not filter_.judge([row(self.SPANISH)])[0].reason


class TestPersonalData:
    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("write to maria.lopez@mailhost.org today", "an e-mail address"),
            ("call me on +44 20 7946 0958", "a phone number"),
            ("call (212) 736-5000 or wait", "a phone number"),
            ("my card is 4111 1111 1111 1111", "a payment card number"),
            ("pay to GB82 WEST 1234 5698 7654 32 please", "an IBAN"),
        ],
    )
    def test_found(self, text: str, kind: str) -> None:
        """Each kind is found, and the reason does not repeat the value: it goes to reports."""
        assert PersonalDataFilter().judge([row(text)])[0].reason == f"holds {kind}"

    @pytest.mark.parametrize(
        "text",
        [
            "order 4111 1111 1111 1112 is late",
            "write to help@example.com",
            "in 1914-1918 and 1939-1945",
            "GB82 WEST 1234 5698 7654 33",
            "version 10.4.22 costs 1,234,567.89",
            "0000000000000000",
            "at 12:30 on 24.12.2025 in room 301-220",
        ],
    )
    def test_left_alone(self, text: str) -> None:
        """Order numbers, dates, prices and addresses reserved for examples are no one's data."""
        assert find_personal_data(text) == ""


class TestContamination:
    def test_drops_and_names_the_row(self) -> None:
        """A row that repeats a held-out input is dropped, naming that row, of either side."""
        held_out = {
            "test row 1": "which river is the longest in europe",
            "validation row 1": "who built the great wall of china",
        }
        verdicts = ContaminationFilter(held_out).judge(
            [
                row("Which river is the longest in Europe?"),
                row("Who built the Great Wall of China"),
                row("how old is Bob"),
            ]
        )
        assert "test row 1" in verdicts[0].reason
        assert verdicts[1].reason == "equal to validation row 1"
        assert verdicts[2] == Verdict()

    def test_another_question_about_a_held_out_passage(self) -> None:
        """The passage gives the held-out answer away whatever is asked about it; a passage that
        the seeds have is nobody's secret, and a question alone may come again."""
        shared = "The mill was built in 1802 and burnt down a year later."
        secret = "The harbour froze over in the winter of 1890, and no ship came in."
        held_out = {
            "test row 1": f"{secret}\n\nWhen did it freeze?",
            "test row 2": f"{shared}\n\nWhen did it burn?",
        }
        filter_ = ContaminationFilter(held_out, seeds=[row(f"{shared}\n\nWho built it?")])
        verdicts = filter_.judge(
            [
                row(f"{secret}\n\nHow many ships came in that winter, and where were they from?"),
                row(f"{secret.replace('no ship', 'no ships')}\n\nWhat happened to the trade then?"),
                row(f"{shared}\n\nWhich year came a year after it had been built, and why?"),
                row("Snow fell on the pass in May and closed it.\n\nWhen did it freeze?"),
                row("no passage at all"),
            ]
        )
        reasons = [verdict.reason for verdict in verdicts]
        assert reasons[0] == "context: equal to that of test row 1"
        assert reasons[1].startswith("context: character 5-gram similarity 0.8")
        assert reasons[2:] == ["", "", ""]

    def test_flags_do_not_drop(self) -> None:
        """A row that only means the same is counted and shown, and stays."""
        filter_ = ContaminationFilter(
            {"test row 1": "a"}, embed=lambda texts: np.ones((len(texts), 1), np.float32)
        )
        assert filter_.judge([row("entirely different")]) == [Verdict()]
        report = filter_.describe()
        assert report["flagged"] == 1
        assert report["flagged_samples"] == [
            {"input": "entirely different", "like": "test row 1", "similarity": 1.0}
        ]


class TestRegistry:
    BRIEF = TaskBrief(tuple(TestLength.SEEDS), is_classification=True)

    def list_names(self, settings: Filters) -> list[str]:
        judges = build_judges(
            self.BRIEF, settings, held_out={"test row 1": "x"}, quality_threshold=0.85,
        )  # fmt: skip
        return [item.name for item in (*build_validity_filters(self.BRIEF, settings), *judges)]

    def test_cheap_to_dear(self) -> None:
        """By default all but personal data, and what needs a model comes last: a row that a
        string comparison can drop is not embedded first."""
        assert self.list_names(Filters()) == [
            "exactDuplicates", "length", "nearDuplicates", "contamination", "language",
            "embeddingDuplicates", "quality",
        ]  # fmt: skip

    def test_what_asks_or_runs_comes_last(self) -> None:
        """A query may take seconds and a label three passes of a language model: no row comes to
        them that a cheaper filter drops."""
        texts = TaskBrief((row("Monday at ten", "select 1"),), False, task="generation")
        assert build_validity_filters(texts, Filters())[-1].name == "structured"
        scored = ConsistencyFilter(FakeModel(2.0, 5.0), make_contract(), make_sentiment_seeds())
        judges = build_judges(
            self.BRIEF, Filters(), held_out={}, quality_threshold=0.85, consistency=[scored]
        )
        assert [item.name for item in judges][-2:] == ["quality", "consistency"]

    def test_switches(self) -> None:
        """Each filter with settings can be switched, and every other one is always there."""
        names = {field.alias for field in Filters.model_fields.values()}
        on = read_settings({name: {"enabled": True} for name in names})
        off = read_settings({name: {"enabled": False} for name in names})
        # A label has no source, and no grammar; and here is no teacher to be asked for it.
        names -= {"grounding", "structured", "consistency", "unsafe"}
        assert set(self.list_names(on)) - set(self.list_names(off)) == names
        assert self.list_names(off) == ["exactDuplicates", "contamination", "quality"]

    @pytest.mark.parametrize("is_on", [True, False])
    def test_structured_answers_are_parsed_where_targets_are_no_labels(self, is_on: bool) -> None:
        """Half an object passes every other filter."""
        brief = TaskBrief((row("Monday at ten", '{"day": "mon"}'),), False, task="generation")
        built = build_validity_filters(brief, read_settings({"structured": {"enabled": is_on}}))
        assert ("structured" in [item.name for item in built]) == is_on

    @pytest.mark.parametrize("task", ["extraction", "generation"])
    def test_contexts_count_where_there_are_any(self, task: str) -> None:
        """Only of questions about a context is what stands before a blank line a context."""
        brief = TaskBrief((row("The roof is from 2019.\n\nWhen?", "2019"),), False, task=task)
        (filter_, *_) = build_judges(
            brief, Filters(), held_out={"test row 1": "The barn is red.\n\nIs it?"},
            quality_threshold=0.85,
        )  # fmt: skip
        (verdict,) = filter_.judge([row("The barn is red.\n\nWho painted it in that colour?")])
        assert bool(verdict.reason) == (task == "extraction")

    @pytest.mark.parametrize("task", ["extraction", "summarization"])
    def test_grounding_is_for_tasks_with_a_source(self, task: str) -> None:
        """A made-up answer passes every other filter: where there is a source, it is looked at."""
        brief = TaskBrief((row("The roof is from 2019.", "2019"),), False, task=task)
        built = [
            [
                item.name
                for item in build_judges(
                    brief, read_settings({"grounding": {"enabled": is_on}}), held_out={},
                    quality_threshold=0.85,
                )
            ]
            for is_on in (True, False)
        ]  # fmt: skip
        assert set(built[0]) - set(built[1]) == {"grounding"}

    @pytest.mark.parametrize("wrong", [{"toxicity": {}}, {"length": {"max": 3}}])
    def test_unknown_names(self, wrong) -> None:
        """A misspelt filter is refused with those there are; passed over, it would seem to run."""
        with pytest.raises(InputError) as caught:
            read_settings(wrong)
        assert "embeddingDuplicates" in caught.value.remedy


class FakeModel:
    """Scores by known rules: knows some words, leans to one label whatever the text.

    Args:
        knowledge: nats that a known word is worth.
        bias: nats by which the first label is preferred, with or without a text.
    """

    def __init__(self, knowledge: float, bias: float) -> None:
        self.tokenizer = build_tiny_tokenizer()
        self.num_scored = 0
        self._knowledge = knowledge
        self._bias = bias

    def score(
        self, prompts: Sequence[Sequence[int]], candidates: Sequence[Sequence[int]], *, batch_size
    ) -> np.ndarray:
        self.num_scored += len(prompts)
        scores = np.zeros((len(prompts), len(candidates)))
        for place, prompt in enumerate(prompts):
            query = self.tokenizer.decode(prompt).rpartition("Text:")[2]
            scores[place, 0] += self._bias + self._knowledge * ("bad" in query)
            scores[place, 1] += self._knowledge * ("good" in query)
        return scores


def make_contract() -> PromptContract:
    return PromptContract(
        task="classification",
        system="",
        prompt="{description}\n\nText: {input}\nLabel:",
        description="Sentiment.",
        labels=LABELS,
        verbalizers={label: label for label in LABELS},
        use_chat_template=False,
    )


def make_sentiment_seeds(count: int = 24) -> list[Example]:
    return [
        row(f"a {('bad', 'good')[number % 2]} film number {number}", LABELS[number % 2], number)
        for number in range(count)
    ]


class TestConsistency:
    def test_calibration_undoes_a_bias(self) -> None:
        """A model that leans to one label by more than it knows still judges rightly once its
        content-free prior is taken off; uncalibrated, every row of the other class would go."""
        filter_ = ConsistencyFilter(FakeModel(2.0, 5.0), make_contract(), make_sentiment_seeds())
        assert filter_.measure().is_trusted
        rows = [row("a good day", "positive"), row("a bad day", "positive")]
        verdicts = filter_.judge(rows)
        assert [verdict.reason for verdict in verdicts] == ["", "scored as negative"]
        # A kept row's score stays the quality classifier's, by which the best are chosen.
        assert verdicts[0].score is None
        assert verdicts[1].score < 0.5

    def test_ignorant_model_is_not_trusted(self) -> None:
        """A model that knows nothing drops nothing, and the report says that it was not asked."""
        model = FakeModel(0.0, 5.0)
        filter_ = ConsistencyFilter(model, make_contract(), make_sentiment_seeds())
        assert not filter_.measure().is_trusted
        asked = model.num_scored
        assert filter_.judge([row("a bad day", "positive")]) == [Verdict()]
        assert model.num_scored == asked
        assert filter_.describe()["trusted"] is False

    def test_untrusted_may_fail(self) -> None:
        """With `fail` the job ends before anything is paid, saying the figures."""
        filter_ = ConsistencyFilter(
            FakeModel(0.0, 0.0), make_contract(), make_sentiment_seeds(), on_untrusted="fail"
        )
        with pytest.raises(InputError, match="of 24 seeds"):
            filter_.measure()

    def test_seed_is_left_out_of_its_prompt(self) -> None:
        """A seed shown in its own prompt would be found by copying: trust for nothing."""
        seen: list[str] = []

        class Recorder(FakeModel):
            def score(self, prompts, candidates, *, batch_size):
                seen.extend(self.tokenizer.decode(prompt) for prompt in prompts)
                return super().score(prompts, candidates, batch_size=batch_size)

        seeds = make_sentiment_seeds(8)
        ConsistencyFilter(Recorder(2.0, 0.0), make_contract(), seeds).measure()
        for text in seen:
            shown, _, query = text.rpartition("Text:")
            asked = query.replace("Label:", "").strip()
            assert f"{asked}\n" not in shown or "film" not in asked

    def test_three_orders(self) -> None:
        """Every row is scored under three orders of the shots, each with its own prior."""
        model = FakeModel(2.0, 0.0)
        filter_ = ConsistencyFilter(model, make_contract(), make_sentiment_seeds())
        filter_.measure()
        before = model.num_scored
        filter_.judge([row("a good day", "positive")] * 5)
        assert model.num_scored - before == 15


class TestQuality:
    def make_seeds(self, count: int) -> list[Example]:
        rng = random.Random(0)
        subjects = ["The parcel", "My order", "The courier", "This invoice", "The refund"]
        verbs = {"delivery": "arrived late at", "billing": "was charged twice for"}
        return [
            row(
                f"{rng.choice(subjects)} {verbs[label]} number {rng.randrange(10**4)} in spring .",
                label,
                number,
            )
            for number in range(count)
            for label in verbs
        ]

    def test_drops_what_it_knows_is_bad(self) -> None:
        """With enough seeds and proof on held-out ones, swapped labels and word salad go."""
        filter_ = QualityFilter(self.make_seeds(60), 0.6, is_classification=True)
        assert not filter_.fit.is_advisory
        good = row("My order arrived late at number 4711 in spring .", "delivery")
        swapped = row("My order arrived late at number 4711 in spring .", "billing")
        salad = row("spring number late . in arrived order at My 4711", "delivery")
        verdicts = filter_.judge([good, swapped, salad])
        assert [bool(verdict.reason) for verdict in verdicts] == [False, True, True]
        assert verdicts[0].score > max(verdicts[1].score, verdicts[2].score)

    def test_roc_is_of_seeds_it_has_not_seen(self) -> None:
        """A curve over what was learnt by heart would call any classifier trusted: where labels
        are drawn by lot, no classifier tells a wrong one."""
        rng = random.Random(1)
        seeds = [replace(seed, target=rng.choice(LABELS)) for seed in self.make_seeds(60)]
        fit = QualityFilter(seeds, 0.5, is_classification=True).fit
        assert 0.35 < fit.auc_by_fault["wrong label"] < 0.65
        assert fit.auc_low <= fit.auc <= fit.auc_high
        assert list(fit.roc) == sorted(fit.roc)
        assert fit.roc[-1][1] == 1.0

    def test_a_wrong_label_is_told_by_meaning(self) -> None:
        """Words that no seed has still mean something: a swapped label on a fluent text is the
        fault that training suffers from most."""
        seeds = [row(text, label) for label, texts in MEANINGS.items() for text in texts]
        filter_ = QualityFilter(seeds, 0.5, is_classification=True)
        unseen = "The bill is higher than what we had agreed upon."
        right, wrong = filter_.judge([row(unseen, "payment"), row(unseen, "transport")])
        assert right.score > wrong.score + 0.2

    def test_few_seeds_drop_nothing(self) -> None:
        """Under 50 seeds it may rank and never drop, whatever the threshold."""
        filter_ = QualityFilter(self.make_seeds(20), 1.0, is_classification=True)
        verdicts = filter_.judge([row("word salad the of", "billing"), self.make_seeds(1)[0]])
        assert [verdict.reason for verdict in verdicts] == ["", ""]
        assert filter_.describe()["advisory"] is True

    def test_hardly_any_seeds(self) -> None:
        """A handful teaches nothing: all rows score the stated prior."""
        filter_ = QualityFilter(self.make_seeds(2), 1.0, is_classification=True)
        assert [verdict.score for verdict in filter_.judge(self.make_seeds(2))] == [PRIOR_GOOD] * 4

    def test_useless_classifier_is_advisory(self) -> None:
        """Where seeds are noise, the AUC's lower bound says so and nothing is dropped."""
        rng = random.Random(0)
        noise = [
            row(" ".join(rng.choices("abcdefgh", k=5)), rng.choice(LABELS), number)
            for number in range(80)
        ]
        assert QualityFilter(noise, 1.0, is_classification=True).fit.is_advisory

    def test_same_seeds_same_scores(self) -> None:
        """Two starts of a run keep the same rows."""
        seeds = self.make_seeds(30)
        first, second = (QualityFilter(seeds, 0.5, is_classification=True) for _ in range(2))
        assert first.judge(seeds) == second.judge(seeds)

    @pytest.mark.parametrize("is_classification", [True, False])
    def test_corruptions_differ_from_the_seed(self, is_classification: bool) -> None:
        """A "bad" example equal to the good one would teach the opposite."""
        seeds = self.make_seeds(10)
        for seed in seeds:
            made = corrupt_seed(seed, seeds, random.Random(1), is_classification=is_classification)
            assert made
            assert (seed.input, seed.target) not in [pair for _, pair in made]


class DropText:
    """Drops rows with a word, like a filter that comes late."""

    name = "late"

    def __init__(self, word: str) -> None:
        self._word = word
        self.num_judged = 0

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        self.num_judged += len(rows)
        return [Verdict("no" if self._word in item.target else "") for item in rows]

    def describe(self) -> dict[str, object]:
        return {}


class AskAway(DropText):
    """The same, of the kind that asks."""

    async def judge(self, rows: Sequence[Example], ask: object) -> list[Verdict]:
        return super().judge(rows)


class TestCopiesOfDroppedRows:
    """A good row is not dropped for saying what a bad one said, in one round or over several."""

    TEXT = "My parcel has not arrived yet, and nobody tells me why"
    VECTORS: ClassVar = {TEXT: (1, 0), f"{TEXT}!": (1, 0), "Something else entirely": (0, 1)}

    def build(self, kind: str) -> object:
        def embed(texts: Sequence[str]) -> np.ndarray:
            return np.array([self.VECTORS[text] for text in texts], np.float32).reshape(-1, 2)

        seeds = [row("Something else entirely", "right")]
        if kind == "embeddingDuplicates":
            return EmbeddingDuplicateFilter(seeds, embed, similarity=0.95, is_classification=True)
        kinds = {item.name: item for item in (ExactDuplicateFilter, NearDuplicateFilter)}
        return kinds[kind](seeds, is_classification=True)

    @pytest.mark.parametrize("kind", ["exactDuplicates", "nearDuplicates", "embeddingDuplicates"])
    @pytest.mark.parametrize("is_asked", [False, True])
    @pytest.mark.parametrize("is_one_round", [False, True])
    def test_the_second_of_two_is_judged_by_itself(
        self, kind: str, is_asked: bool, is_one_round: bool
    ) -> None:
        """The first has the wrong label and goes for it: the second, with the right one, stays, and
        from then on it is the one that no other may repeat."""
        late = AskAway("wrong") if is_asked else DropText("wrong")
        filters = [self.build(kind), *([] if is_asked else [late])]
        chain = FilterChain(filters, [late] if is_asked else [], is_classification=True)
        bad, good, third = (row(self.TEXT, target) for target in ("wrong", "right", "also right"))
        rounds = [[bad, good], [third]] if is_one_round else [[bad], [good], [third]]

        async def judge() -> list[Example]:
            return [
                kept for rows in rounds for kept in await chain.apply_asked(chain.apply(rows), None)
            ]

        assert asyncio.run(judge()) == [good]
        reasons = {item.row.target: item.filter for item in chain.rejected}
        assert reasons == {"wrong": "late", "also right": kind}
        told = chain.describe()
        assert (told[kind]["seen"], told[kind]["passed"]) == (3, 2)
        assert (told["late"]["seen"], told["late"]["passed"]) == (2, 1)

    def test_seeds_are_never_forgotten(self) -> None:
        """A row that equals a seed goes, whatever became of others like it."""
        chain = FilterChain(
            [self.build("exactDuplicates"), DropText("wrong")], is_classification=True
        )
        rows = [row("Something else entirely", "wrong"), row("something ELSE entirely", "right")]
        assert chain.apply(rows) == []
        assert chain.apply(rows) == []

    def test_many_copies_cost_two_looks(self) -> None:
        """Taken one by one, a teacher's thousand copies of a bad row would be judged half a
        million times."""
        near, late = self.build("nearDuplicates"), DropText("wrong")
        looks = 0
        judge = near.judge

        def count(rows: Sequence[Example]) -> list[Verdict]:
            nonlocal looks
            looks += len(rows)
            return judge(rows)

        near.judge = count
        chain = FilterChain([near, late], is_classification=True)
        rows = [row(self.TEXT, f"wrong {number}") for number in range(200)]
        assert chain.apply(rows) == []
        assert looks == 200 + 199
        assert late.num_judged == 2
        assert len(chain.rejected) == 200
        assert chain.describe()["nearDuplicates"]["seen"] == 200


def test_chain_counts_by_class() -> None:
    """Retention is told filter by filter and class by class: a filter that removes one class
    must be seen."""

    class DropNegative:
        name = "drop"

        def judge(self, rows):
            return [Verdict("no" if item.target == "negative" else "", 0.5) for item in rows]

        def describe(self):
            return {"trusted": True}

    chain = FilterChain([DropNegative()], is_classification=True)
    kept = chain.apply(make_sentiment_seeds(10))
    assert len(kept) == 5
    report = chain.describe()["drop"]
    assert report["retention_by_class"] == {"negative": 0.0, "positive": 1.0}
    assert report["trusted"] is True
    assert {item.reason for item in chain.rejected} == {"no"}
    assert set(chain.scores) == {item.id for item in kept}

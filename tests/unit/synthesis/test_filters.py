"""Which rows are dropped, and why."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.tiny_models import build_tiny_tokenizer

from loam_runtime.data.contamination import extract_grams
from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.data.prompt import PromptContract
from loam_runtime.errors import InputError
from loam_runtime.synthesis.filters.base import FilterChain, Verdict
from loam_runtime.synthesis.filters.consistency import ConsistencyFilter
from loam_runtime.synthesis.filters.contamination import ContaminationFilter
from loam_runtime.synthesis.filters.corruptions import corrupt_seed
from loam_runtime.synthesis.filters.duplicates import DuplicateFilter
from loam_runtime.synthesis.filters.quality import PRIOR_GOOD, QualityFilter

LABELS = ("negative", "positive")


def row(input_text: str, target: str = "x", number: int = 0) -> Example:
    return Example(f"{input_text}/{target}/{number}", input_text, target, origin="synthetic")


class TestDuplicates:
    def test_exact_and_near(self) -> None:
        """Copies of seeds and of earlier rows go, in whatever case and spacing."""
        seed = row("The parcel never arrived at my door")
        filter_ = DuplicateFilter([seed], is_classification=True)
        rows = [
            row("the  parcel NEVER arrived at my door"),
            row("The parcel never arrived at my door!"),
            row("An entirely different complaint about billing"),
            row("An entirely different complaint about billing."),
        ]
        reasons = [verdict.reason for verdict in filter_.judge(rows)]
        assert [bool(reason) for reason in reasons] == [True, True, False, True]
        assert reasons[0] == "equal to a seed"

    def test_one_passage_two_questions(self) -> None:
        """Outside classification, equal inputs with different answers are different rows."""
        filter_ = DuplicateFilter([], is_classification=False)
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
    def test_search_is_exact(self, base: str, edits: list[list[tuple[int, str]]]) -> None:
        """The index finds exactly what comparing all pairs finds; a miss would be silent."""
        texts = [base, *(_edit(base, changes) for changes in edits)]
        filter_ = DuplicateFilter([row(texts[0])], is_classification=True)
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


def test_contamination() -> None:
    """A row that repeats a test input is dropped, naming the test row."""
    filter_ = ContaminationFilter(["which river is the longest in europe"])
    verdicts = filter_.judge([row("Which river is the longest in Europe?"), row("how old is Bob")])
    assert "test row 1" in verdicts[0].reason
    assert verdicts[1] == Verdict()


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
        assert verdicts[0].score > 0.5 > verdicts[1].score

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
            assert (seed.input, seed.target) not in made


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

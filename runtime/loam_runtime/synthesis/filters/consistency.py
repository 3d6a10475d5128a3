"""Label consistency: does the model itself, shown examples, give the row the label asked for?

After arXiv:2404.02422, with two repairs. Scores are calibrated by the content-free prior (Zhao
et al., 2021), since a small model favours one label whatever the text. And the filter is first
measured on the seeds, none of which is in the prompt that judges it: where it is not better than
always saying the majority class, it is not trusted and drops nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.data.prompt import PromptContract
from loam_runtime.data.template import encode_prompt, encode_target
from loam_runtime.synthesis.filters.base import Verdict
from loam_runtime.synthesis.filters.trust import (
    GENERATING_MODEL,
    OnUntrusted,
    Trust,
    choose_measured,
    compute_trust,
    cut_folds,
    draw_orders,
)
from loam_runtime.synthesis.scoring import LanguageModel

SHOTS_PER_LABEL = 4
MAX_MEASURED_SEEDS = 64
MIN_MEASURED_SEEDS = 40
CONTENT_FREE = ("N/A", "[MASK]", "")


class ConsistencyFilter:
    """Drops rows that the model, by calibrated likelihood, would label otherwise.

    Args:
        model: scores candidates; the one that wrote the rows.
        contract: the prompt contract, with all labels.
        seeds: training rows; shots are drawn from them.
        random_seed: of the run; fixes shots and their orders.
        on_untrusted: keep the rows unjudged, or fail.
        batch_size: prompts scored together.
    """

    name = "consistency"

    def __init__(
        self,
        model: LanguageModel,
        contract: PromptContract,
        seeds: Sequence[Example],
        *,
        random_seed: int = 0,
        on_untrusted: OnUntrusted = "keep",
        batch_size: int = 16,
    ) -> None:
        self._model = model
        self._contract = contract
        self._seeds = tuple(seeds)
        self._on_untrusted = on_untrusted
        self._batch_size = batch_size
        self._candidates = [
            encode_target(contract, model.tokenizer, label) for label in contract.labels
        ]
        self._orders = draw_orders(
            self._seeds, contract.labels, random.Random(random_seed), per_label=SHOTS_PER_LABEL
        )
        self._priors: list[np.ndarray] | None = None
        self.trust: Trust | None = None

    def measure(self) -> Trust:
        """Measure the filter on the seeds; to be called once, before the first row.

        Raises:
            InputError: it is not trusted and `on_untrusted` is "fail".
        """
        self.trust = self._measure_trust()
        if not self.trust.is_trusted and self._on_untrusted == "fail":
            raise self.trust.refuse(GENERATING_MODEL)
        return self.trust

    @property
    def is_trusted(self) -> bool:
        """Whether it was measured and found better than the majority class."""
        return self.trust is not None and self.trust.is_trusted

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. The score of a dropped row is its label's calibrated probability; that of
        one that passes stays the quality classifier's."""
        assert self.trust is not None, "measure() comes first"
        if not self.trust.is_trusted or not rows:
            return [Verdict() for _ in rows]
        return [
            self._compare(row, scores)
            for row, scores in zip(rows, self._score([row.input for row in rows]), strict=True)
        ]

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {"trusted": None} if self.trust is None else self.trust.describe(GENERATING_MODEL)

    def _compare(self, row: Example, scores: np.ndarray) -> Verdict:
        labels = self._contract.labels
        best = labels[int(scores.argmax())]
        if best == row.target:
            return Verdict()
        probability = float(_softmax(scores)[labels.index(row.target)])
        return Verdict(f"scored as {best}", round(probability, 4))

    def _score(self, inputs: Sequence[str]) -> np.ndarray:
        """[num_inputs, num_labels]: calibrated log-scores, mean over the orders of the shots."""
        if self._priors is None:
            self._priors = [
                _compute_prior(self._score_raw(CONTENT_FREE, order)) for order in self._orders
            ]
        calibrated = [
            _log_softmax(self._score_raw(inputs, order)) - prior
            for order, prior in zip(self._orders, self._priors, strict=True)
        ]
        return np.mean(calibrated, axis=0)

    def _score_left_out(self, left_out: Sequence[Example]) -> np.ndarray:
        """[num_left_out, num_labels]: the same for seeds that are shots, under prompts without
        any of them."""
        hidden = {seed.id for seed in left_out}
        inputs = [*(seed.input for seed in left_out), *CONTENT_FREE]
        calibrated = []
        for order in self._orders:
            raw = self._score_raw(inputs, [shot for shot in order if shot.id not in hidden])
            prior = _compute_prior(raw[len(left_out) :])
            calibrated.append(_log_softmax(raw[: len(left_out)]) - prior)
        return np.mean(calibrated, axis=0)

    def _score_raw(self, inputs: Sequence[str], shots: Sequence[Example]) -> np.ndarray:
        pairs = [(shot.input, shot.target) for shot in shots]
        prompts = [
            encode_prompt(self._contract, self._model.tokenizer, text, shots=pairs)
            for text in inputs
        ]
        return np.asarray(self._model.score(prompts, self._candidates, batch_size=self._batch_size))

    def _measure_trust(self) -> Trust:
        shown = {shot.id for shot in self._orders[0]}
        measured = choose_measured(
            self._seeds, self._orders[0], enough=MIN_MEASURED_SEEDS, most=MAX_MEASURED_SEEDS
        )
        unseen = [seed for seed in measured if seed.id not in shown]
        scores: dict[str, np.ndarray] = {}
        for left_out in cut_folds([seed for seed in measured if seed.id in shown]):
            rows = self._score_left_out(left_out)
            scores |= {seed.id: row for seed, row in zip(left_out, rows, strict=True)}
        if unseen:
            rows = self._score([seed.input for seed in unseen])
            scores |= {seed.id: row for seed, row in zip(unseen, rows, strict=True)}
        labels = self._contract.labels
        found = [labels[int(scores[seed.id].argmax())] for seed in measured]
        return compute_trust([seed.target for seed in measured], found)


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(_log_softmax(scores))


def _compute_prior(scores: np.ndarray) -> np.ndarray:
    """[num_labels]: log of the mean probability of each label over the content-free inputs."""
    return np.log(_softmax(scores).mean(axis=0) + 1e-12)

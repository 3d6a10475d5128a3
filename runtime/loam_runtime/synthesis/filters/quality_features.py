"""What the quality classifier sees of a pair: its words, its meaning, and how its sides agree.

The encoder is frozen MiniLM (`embeddings`); what is fine-tuned on the seeds is what stands on it.
Whether a label belongs to a text is the hardest of the questions, and no feature of text or label
alone answers it: so a classifier of the labels, which has not seen the seed in question, is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.embeddings import embed_texts
from loam_runtime.synthesis.filters.corruptions import Pair

_MIN_PROBABILITY = 1e-4
_DENSE_SCALE = 3.0  # so that a dense block weighs about as much as the hashed ones
_AGREEMENT_SCALE = 0.5


class PairFeaturizer:
    """Hashed n-grams, embeddings, and how input and target agree.

    Args:
        is_classification: targets are labels.
    """

    def __init__(self, is_classification: bool) -> None:
        self._is_classification = is_classification
        self._chars = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=2**15)
        self._words = HashingVectorizer(analyzer=str.split, n_features=2**15)
        self._typical_lengths = (1.0, 1.0)
        self._judges: list[LabelJudge] = []

    def fit(self, seeds: Sequence[Example], folds: np.ndarray) -> PairFeaturizer:
        """Learn the usual lengths and, of each label, what its texts mean.

        Args:
            folds: [num_seeds]: the fold that each seed is held out in.
        """
        inputs = np.median([len(seed.input.split()) for seed in seeds])
        targets = np.median([len(seed.target.split()) for seed in seeds])
        self._typical_lengths = (float(max(inputs, 1)), float(max(targets, 1)))
        if self._is_classification:
            vectors = embed_texts([seed.input for seed in seeds])
            labels = np.array([seed.target for seed in seeds])
            self._judges = [
                LabelJudge(vectors[folds != fold], labels[folds != fold])
                for fold in range(int(folds.max()) + 1)
            ]
        return self

    def transform(
        self, pairs: Sequence[Pair], folds: np.ndarray | None = None
    ) -> sparse.csr_matrix:
        """[num_pairs, num_features].

        Args:
            folds: [num_pairs]: of the seed that each pair was made of, whose label judge has not
                seen it; None for new pairs, which all judges are asked about.
        """
        own = [text if self._is_classification else target for text, target in pairs]
        inputs = embed_texts([text for text, _ in pairs])
        targets = inputs if self._is_classification else embed_texts([one for _, one in pairs])
        agreement = np.array([self._agree(pair) for pair in pairs])
        meaning = self._compare(pairs, inputs, targets, folds)
        dense = targets * _DENSE_SCALE
        return sparse.hstack(
            [
                self._chars.transform(own),
                self._words.transform([self._join(pair) for pair in pairs]),
                sparse.csr_matrix(np.hstack([agreement, meaning, dense])),
            ],
            format="csr",
        )

    def _compare(
        self,
        pairs: Sequence[Pair],
        inputs: np.ndarray,
        targets: np.ndarray,
        folds: np.ndarray | None,
    ) -> np.ndarray:
        """[num_pairs, any]: how well the target fits the input, by meaning."""
        if not self._is_classification:
            cosine = (inputs * targets).sum(1, keepdims=True)
            return np.hstack([cosine * _DENSE_SCALE, inputs * targets * _DENSE_SCALE])
        labels = [target for _, target in pairs]
        asked = np.array([judge.score(inputs, labels) for judge in self._judges])
        own = asked.mean(0) if folds is None else asked[folds, np.arange(len(pairs))]
        return own * _AGREEMENT_SCALE

    def _join(self, pair: Pair) -> str:
        """Words and word pairs; in classification each also together with the label."""
        text, target = pair
        words = (text if self._is_classification else target).lower().split()
        grams = [*words, *(f"{a}_{b}" for a, b in pairwise(words))]
        if self._is_classification:
            label = "_".join(target.split())
            grams += [f"{label}|{word}" for word in words]
        return " ".join(grams)

    def _agree(self, pair: Pair) -> list[float]:
        first, second = (text.lower().split() for text in pair)
        shared = set(first) & set(second)
        main = first if self._is_classification else second
        return [
            len(shared) / max(len(set(second)), 1),
            float(np.log1p(len(first) / self._typical_lengths[0])),
            float(np.log1p(len(second) / self._typical_lengths[1])),
            len(set(main)) / max(len(main), 1),
            float(pair[0].strip() == pair[1].strip()),
            float(pair[0 if self._is_classification else 1].rstrip()[-1:] in ".?!"),
        ]


class LabelJudge:
    """Which label a text has, learnt from the seeds it was given."""

    def __init__(self, vectors: np.ndarray, labels: np.ndarray) -> None:
        self._names = sorted(set(labels.tolist()))
        self._model: LogisticRegression | None = None
        if len(self._names) > 1:
            self._model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=500)
            self._model.fit(vectors, labels)

    def choose(self, vectors: np.ndarray) -> np.ndarray:
        """[num_texts]: the label of each."""
        if self._model is None:
            return np.full(len(vectors), self._names[0])
        return self._model.predict(vectors)

    def score(self, vectors: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """[num_texts, 2]: log-probability of the label named, and its lead over the best other."""
        if self._model is None:
            return np.zeros((len(labels), 2))
        logs = np.log(np.maximum(self._model.predict_proba(vectors), _MIN_PROBABILITY))
        places = {label: place for place, label in enumerate(self._model.classes_)}
        scores = np.zeros((len(labels), 2))
        for row, label in enumerate(labels):
            place = places.get(label)
            own = np.log(_MIN_PROBABILITY) if place is None else logs[row, place]
            others = logs[row] if place is None else np.delete(logs[row], place)
            scores[row] = own, own - others.max()
        return scores

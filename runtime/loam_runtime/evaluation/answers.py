"""How the test rows are answered: labels, free text, or the probability of a given text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.evaluation.likelihood import (
    compute_log_prior,
    describe_scores,
    prefers_calibrated,
)
from loam_runtime.evaluation.metrics import Prediction
from loam_runtime.evaluation.session import Session, iterate_chunks

if TYPE_CHECKING:
    from datasets import Dataset

# Room for spaces and line breaks before a label, which do not make it invalid.
_EXTRA_LABEL_TOKENS = 4
_NO_LABEL: dict[str, Any] = {
    "label": "",
    "labelRaw": "",
    "labelCalibrated": "",
    "probabilities": {},
    "logProbs": {},
    "generatedText": "",
    "generatedLabel": "",
}


def answer_with_labels(
    session: Session, test: Dataset, selection: Sequence[Example], prior_inputs: Sequence[str]
) -> tuple[list[Prediction], str]:
    """A label for every row, by likelihood and by free generation.

    A model that reasons first is scored behind the rationale that it wrote for the row.

    Args:
        selection: rows outside the test, on which raw or calibrated scores are chosen.
        prior_inputs: inputs without content, for calibration.

    Returns:
        The predictions, and which scores decided: "raw" or "calibrated".
    """
    labels = session.contract.labels
    candidates = [session.encode_target(label) for label in labels]
    thinks = session.contract.rationale_tokens > 0
    log_prior, is_calibrated = (
        (np.zeros(len(labels)), False)  # an input without content has no rationale
        if thinks
        else _calibrate(session, candidates, selection, prior_inputs)
    )
    num_new = max(map(len, candidates)) + _EXTRA_LABEL_TOKENS
    num_new = session.contract.rationale_tokens + min(session.max_new_tokens, num_new)
    predictions: list[Prediction] = []
    for rows in iterate_chunks(test):
        answers = [_NO_LABEL] * len(rows)
        places, prompts = session.encode_fitting(rows, num_new)
        session.num_too_long += len(rows) - len(places)
        generations = session.generate(prompts, num_new, one_line=not thinks)
        written = [generation.text for generation in generations]
        heads = session.encode_heads(prompts, written) if thinks else prompts
        scores = session.score(heads, candidates)
        by_likelihood = describe_scores(scores, log_prior, is_calibrated, labels)
        for place, fields, generation in zip(places, by_likelihood, generations, strict=True):
            label = session.contract.parse_answer(generation.text)
            answers[place] = fields | {"generatedText": generation.text, "generatedLabel": label}
        predictions += map(_describe, rows, answers)
    return predictions, "calibrated" if is_calibrated else "raw"


def _calibrate(
    session: Session,
    candidates: Sequence[list[int]],
    selection: Sequence[Example],
    prior_inputs: Sequence[str],
) -> tuple[np.ndarray, bool]:
    """The log prior of the labels, and whether dividing by it helps on the selection rows."""
    places, prompts = session.encode_fitting(selection, max(map(len, candidates)))
    priors = [session.encode(Example(id="", input=text, target="")) for text in prior_inputs]
    scores = session.score([*priors, *prompts], candidates)
    log_prior = compute_log_prior(scores[: len(priors)])
    targets = [selection[place].target for place in places]
    labels = session.contract.labels
    return log_prior, prefers_calibrated(scores[len(priors) :], log_prior, targets, labels)


def answer_freely(
    session: Session, test: Dataset, selection: Sequence[Example]
) -> list[Prediction]:
    """A generated answer for every row.

    Args:
        selection: rows outside the test. Where all their answers are single lines, so are the
            model's: a base model goes on with an example of its own after its answer.
    """
    has_chat_end = session.contract.use_chat_template
    thinks = session.contract.rationale_tokens > 0
    one_line = (
        not thinks and not has_chat_end and not any("\n" in row.target.strip() for row in selection)
    )
    predictions: list[Prediction] = []
    for rows in iterate_chunks(test):
        answers = [""] * len(rows)
        num_new = session.contract.rationale_tokens + session.max_new_tokens
        places, prompts = session.encode_fitting(rows, num_new)
        session.num_too_long += len(rows) - len(places)
        generations = session.generate(prompts, num_new, one_line=one_line)
        for place, generation in zip(places, generations, strict=True):
            answers[place] = session.contract.parse_answer(generation.text)
        predictions += [
            _describe(row, {"answer": answer}) for row, answer in zip(rows, answers, strict=True)
        ]
    return predictions


def score_texts(session: Session, test: Dataset) -> list[Prediction]:
    """Log p of every plain text, and its number of tokens; (0, 0) for one that does not fit."""
    predictions: list[Prediction] = []
    for rows in iterate_chunks(test):
        for row in rows:
            prompt, text = session.encode(row), session.encode_target(row.target)
            ids, num_given = prompt + text, max(1, len(prompt))
            log_prob = [0.0, 0]
            if len(ids) <= session.max_context:
                score = session.score([ids[:num_given]], [ids[num_given:]])
                log_prob = [float(score[0, 0]), len(ids) - num_given]
            else:
                session.num_too_long += 1
            predictions.append(_describe(row, {"logProb": log_prob}))
    return predictions


def _describe(row: Example, answer: dict[str, Any]) -> Prediction:
    return {"id": row.id, "target": row.target, "group": row.group, **answer}

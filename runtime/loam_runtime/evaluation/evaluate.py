"""Measuring a model on the held-out rows, the same way before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from loam_runtime.data.examples import Example, iterate_examples
from loam_runtime.data.template import PromptContract
from loam_runtime.errors import InputError
from loam_runtime.evaluation.answers import answer_freely, answer_with_labels, score_texts
from loam_runtime.evaluation.likelihood import PRIOR_INPUTS
from loam_runtime.evaluation.metrics import Prediction
from loam_runtime.evaluation.model_evaluation import ModelEvaluation, evaluate_predictions
from loam_runtime.evaluation.session import Session
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.observability.monitor import NullMonitor, StageMonitor

if TYPE_CHECKING:
    from datasets import Dataset

# Enough to see whether calibration helps; more would cost as much as the test itself.
_MAX_SELECTION_ROWS = 64
_MIN_UNSEEN_ROWS = 16


def evaluate_model(
    lm: LanguageModel,
    test: Dataset,
    contract: PromptContract,
    *,
    name: str,
    max_new_tokens: int,
    selection: Dataset | None = None,
    shots: Sequence[tuple[str, str]] = (),
    prior_inputs: Sequence[str] = PRIOR_INPUTS,
    batch_size: int = 16,
    monitor: StageMonitor | None = None,
) -> ModelEvaluation:
    """Answers and metrics of one model on the test rows.

    Labels are found by likelihood and also generated freely, as a user would have them; other
    tasks are generated; plain text is scored by its loss per token. Rows pass in chunks: beyond
    the predictions themselves, memory does not grow with the test.

    Args:
        name: "tuned", "zeroShot", "inContext", ... for the report.
        max_new_tokens: of a generated answer; labels get what the longest of them needs.
        selection: validation or training rows, on which raw or calibrated scores are chosen; the
            same for every model that is compared. None: raw scores.
        shots: (input, target) pairs of training rows shown before each input.
        prior_inputs: inputs without content, for calibration.

    Raises:
        InputError: no test row fits the model's context.
    """
    started = perf_counter()
    selected = _select_rows(selection, shots)
    session = Session(
        lm, contract, tuple(shots), max_new_tokens, batch_size, monitor or NullMonitor()
    )
    session.monitor.start(_count_prompts(test, contract, selected, prior_inputs), "prompts")
    predictions, calibration = _answer(session, test, selected, prior_inputs)
    if session.num_too_long == len(predictions):
        raise InputError(
            f"None of the {len(predictions)} test rows fits the model's context of "
            f"{session.max_context} tokens with its answer.",
            remedy="Shorten the rows, lower evaluation.maxNewTokens, or use another model.",
        )
    evaluation = evaluate_predictions(
        name,
        contract.task,
        predictions,
        calibration=calibration,
        num_shots=len(session.shots),
        num_too_long=session.num_too_long,
        seconds=perf_counter() - started,
    )
    session.monitor.log("model_evaluated", **evaluation.to_record())
    return evaluation


def _answer(
    session: Session, test: Dataset, selected: Sequence[Example], prior_inputs: Sequence[str]
) -> tuple[list[Prediction], str]:
    if session.contract.labels:
        return answer_with_labels(session, test, selected, prior_inputs)
    if session.contract.task == "text":
        return score_texts(session, test), ""
    return answer_freely(session, test, selected), ""


def _select_rows(selection: Dataset | None, shots: Sequence[tuple[str, str]]) -> list[Example]:
    """Rows spread evenly over a table, which may be sorted by label."""
    if selection is None:
        return []
    step = max(1, -(-len(selection) // (_MAX_SELECTION_ROWS + len(shots))))
    spread = list(iterate_examples(selection.select(range(0, len(selection), step))))
    shown = {text for text, _ in shots}
    unseen = [row for row in spread if row.input not in shown]
    # A row that is also a shot needs a prompt of its own, without itself: it is asked only where
    # there are few others.
    return unseen if len(unseen) >= _MIN_UNSEEN_ROWS else spread


def _count_prompts(
    test: Dataset,
    contract: PromptContract,
    selected: Sequence[Example],
    prior_inputs: Sequence[str],
) -> int:
    """For the progress shown: every label row is read twice, to be scored and to generate."""
    if contract.labels:
        return 2 * len(test) + len(selected) + len(prior_inputs)
    return len(test)

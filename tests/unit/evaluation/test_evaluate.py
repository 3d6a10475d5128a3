"""One model measured on the test rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import concatenate_datasets

from loam_runtime.data.examples import Example, iterate_examples, to_dataset
from loam_runtime.data.export import write_json_lines
from loam_runtime.data.template import encode_prompt, encode_target
from loam_runtime.errors import InputError
from loam_runtime.evaluation.evaluate import evaluate_model
from loam_runtime.evaluation.majority import majority_baseline
from loam_runtime.evaluation.session import Session
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.steps.evaluate import read_predictions

from .conftest import build_contract, build_rows

OPTIONS = {"name": "zeroShot", "max_new_tokens": 6}
SHOTS = [("fine", "good"), ("awful", "bad")]


def test_labels_are_those_of_the_scores(lm) -> None:
    """`labelRaw` is the likeliest label; `labelCalibrated` the likeliest beyond its prior."""
    contract, test = build_contract(), build_rows(12)
    evaluation = evaluate_model(lm, test, contract, shots=SHOTS, **OPTIONS)

    def score(text: str) -> np.ndarray:
        prompt = encode_prompt(contract, lm.tokenizer, text, shots=SHOTS)
        candidates = [encode_target(contract, lm.tokenizer, one) for one in contract.labels]
        return lm.score([prompt], candidates)[0]

    def normalize(scores: np.ndarray) -> np.ndarray:
        return np.exp(scores) / np.exp(scores).sum()

    prior = np.mean([normalize(score(text)) for text in ("", "N/A", "[MASK]")], axis=0)
    for row, prediction in zip(iterate_examples(test), evaluation.predictions, strict=True):
        scores = score(row.input)
        assert prediction["id"] == row.id
        assert prediction["labelRaw"] == contract.labels[scores.argmax()]
        assert (
            prediction["labelCalibrated"] == contract.labels[(normalize(scores) / prior).argmax()]
        )
        assert list(prediction["logProbs"].values()) == pytest.approx(scores, abs=1e-3)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("task", ["classification", "generation", "text"])
def test_answers_do_not_depend_on_the_batch(lm, task: str) -> None:
    """A smaller machine with smaller batches measures the same."""
    targets = ("good", "bad") if task != "text" else ("a film", "some text that is longer")
    test, contract = build_rows(7, targets=targets), build_contract(task)
    one, many = (evaluate_model(lm, test, contract, batch_size=size, **OPTIONS) for size in (1, 64))
    assert len(one.predictions) == 7
    for first, second in zip(one.predictions, many.predictions, strict=True):
        for field in {"label", "generatedText", "answer"} & first.keys():
            assert first[field] == second[field]
    assert one.metrics.keys() == many.metrics.keys()
    json.dumps([one.to_record(), one.predictions], allow_nan=False)


def test_calibration_is_chosen_outside_the_test(lm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The better of raw and calibrated on the test itself would flatter every model.

    The selection rows' answers are made those of the calibrated scores, so calibration must
    win whatever the test rows say; with the raw scores' answers it must not.
    """
    test, contract = build_rows(8), build_contract()
    rows = build_rows(30, "selection")
    answers = evaluate_model(lm, rows, contract, **OPTIONS).predictions
    fields = ("labelRaw", "labelCalibrated")
    assert any(a[fields[0]] != a[fields[1]] for a in answers)
    for field, expected in zip(fields, ("raw", "calibrated"), strict=True):
        selection = to_dataset(
            Example(id=row.id, input=row.input, target=answer[field])
            for row, answer in zip(iterate_examples(rows), answers, strict=True)
        )
        evaluation = evaluate_model(lm, test, contract, selection=selection, **OPTIONS)
        assert evaluation.calibration == expected
        assert all(p["label"] == p[field] for p in evaluation.predictions)
    assert evaluate_model(lm, test, contract, **OPTIONS).calibration == "raw"


@pytest.mark.parametrize(("num_rows", "num_asked"), [(5, 5), (30, 27)])
def test_a_shot_is_never_asked_with_its_answer(
    lm, monkeypatch: pytest.MonkeyPatch, num_rows: int, num_asked: int
) -> None:
    """A row whose answer stands in the prompt says nothing of the others. With few other rows it
    still counts, asked without its example: else nothing would choose for the base model, and
    fine-tuning would win against its worse half."""
    selection = list(iterate_examples(build_rows(num_rows, "selection")))
    shots = [(row.input, row.target) for row in selection[:3]]
    asked = []
    score = lm.score
    monkeypatch.setattr(
        lm, "score", lambda prompts, *a, **k: asked.append(prompts) or score(prompts, *a, **k)
    )
    options = {"selection": to_dataset(selection), "shots": shots}
    evaluate_model(lm, build_rows(4), build_contract(), **options, **OPTIONS)
    texts = [lm.tokenizer.decode(prompt) for prompt in asked[0][3:]]  # behind the priors
    assert len(texts) == num_asked
    for row, text in zip(selection[-num_asked:], texts, strict=True):
        assert text.count(row.input) == 1


def test_a_row_over_the_context_fails_alone(lm) -> None:
    """A row with 100,000 words counts as wrong, and is counted; the others are measured."""
    long = to_dataset([Example(id="long", input="word " * 3000, target="good")])
    test = concatenate_datasets([build_rows(3), long])
    for task in ("classification", "generation"):
        evaluation = evaluate_model(lm, test, build_contract(task), **OPTIONS)
        assert evaluation.num_too_long == 1
        assert len(evaluation.predictions) == 4
        last = evaluation.predictions[-1]
        assert last.get("label", "") == last.get("answer", "") == ""
    with pytest.raises(InputError, match="None of the 1 test rows fits"):
        evaluate_model(lm, long, build_contract(), **OPTIONS)


def test_a_row_too_long_with_the_shots_is_answered_without(lm) -> None:
    """In-context prompting is not made to look bad by rows that it would be used without."""
    contract = build_contract()
    session = Session(lm, contract, tuple(SHOTS), 6, 4, NullMonitor())
    shots_alone = len(session.encode(Example(id="", input="", target="")))
    row = Example(
        id="", input="x" * (lm.model.config.max_position_embeddings - shots_alone), target="good"
    )
    assert len(session.encode(row)) + 6 > session.max_context
    places, prompts = session.encode_fitting([row], 6)
    assert places == [0]
    assert prompts == [session.encode(row, with_shots=False)]


def test_shots_take_at_most_half_of_the_context(lm) -> None:
    """More examples than fit are left out, not an error after an hour."""
    shots = tuple((f"an example {i} " * 10, "good") for i in range(40))
    session = Session(lm, build_contract(), shots, 6, 4, NullMonitor())
    assert 0 < len(session.shots) < 40
    assert session.shots == shots[: len(session.shots)]


class _Monitor(NullMonitor):
    def __init__(self) -> None:
        self.total, self.done, self.events = 0, 0, []

    def start(self, total: int | None, unit: str) -> None:
        self.total = total

    def advance(self, n: int = 1, **fields: object) -> None:
        self.done += n

    def log(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))


@pytest.mark.parametrize("task", ["classification", "generation"])
def test_progress_ends_at_its_total(lm, task: str) -> None:
    """An ETA that never arrives is none."""
    monitor = _Monitor()
    options = {"selection": build_rows(5, "selection"), "monitor": monitor}
    evaluate_model(lm, build_rows(9), build_contract(task), **options, **OPTIONS)
    assert monitor.done == monitor.total == (2 * 9 + 5 + 3 if task == "classification" else 9)
    assert [event for event, _ in monitor.events] == ["model_evaluated"]


def test_single_line_answers_stop_at_the_line(lm) -> None:
    """A base model's next made-up example is not part of its answer."""
    test, contract = build_rows(6), build_contract("generation")
    one_line = {"name": "x", "max_new_tokens": 60, "selection": build_rows(4)}
    answers = evaluate_model(lm, test, contract, **one_line).predictions
    assert not any("\n" in answer["answer"] for answer in answers)


def test_text_is_scored_as_the_plain_model_does(lm) -> None:
    """Loss per token is that of one ordinary forward, BOS given and EOS learnt."""
    import torch

    test, contract = build_rows(3, targets=("a film", "another one")), build_contract("text")
    evaluation = evaluate_model(lm, test, contract, **OPTIONS)
    losses, num_tokens = 0.0, 0
    for row in iterate_examples(test):
        ids = torch.tensor([[2, *encode_target(contract, lm.tokenizer, row.target)]])
        with torch.no_grad():
            losses += float(lm.model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        num_tokens += ids.shape[1] - 1
    assert evaluation.metrics["logLoss"].value == pytest.approx(losses / num_tokens, abs=1e-4)


def test_majority_is_the_commonest_training_label() -> None:
    """It reads the training rows only, and its accuracy is that label's share of the test."""
    train = build_rows(5, targets=("bad", "bad", "good"))
    evaluation = majority_baseline(train, build_rows(4, targets=("good", "good", "good", "bad")))
    assert {row["label"] for row in evaluation.predictions} == {"bad"}
    assert evaluation.metrics["accuracy"].value == 0.25
    assert evaluation.name == "majority"


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\r", "\n"])
def test_answers_are_read_as_they_were_written(tmp_path, character: str) -> None:
    """A character that some take for the end of a line must not tear an answer in two: the run
    would fail after its training, at every restart."""
    answers = [{"id": "1", "answer": f"one{character}two"}, {"id": "2", "answer": ""}]
    (tmp_path / "evaluation").mkdir()
    write_json_lines(answers, tmp_path / "evaluation" / "tuned.jsonl")
    assert read_predictions(tmp_path, "tuned") == answers

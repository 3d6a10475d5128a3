"""What is asked of vLLM and what is made of its answers; vLLM itself runs in tests/vllm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.models.test_language_model import CANDIDATES, EOS, make_prompts

from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.vllm_model import VllmModel, list_questions


class KnownProcess:
    """Answers as vLLM's process does, by transformers."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self.asked: list[list[dict[str, Any]]] = []

    def ask(self, operation: str, *, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert operation == "answer"
        self.asked.append(requests)
        return [self._answer(request) for request in requests]

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        prompt = request["prompt"]
        if "wanted" in request:
            scores = self._lm.score([prompt], [[token] for token in request["wanted"]])
            return {"log_probs": scores[0].tolist()}
        made = self._lm.generate([prompt], max_new_tokens=request["max_tokens"])[0]
        ids = self._lm.tokenizer.encode(made.text, add_special_tokens=False)
        return {"ids": [*ids, *[EOS] * made.finished], "finished": made.finished}


@pytest.fixture
def process(lm: LanguageModel) -> KnownProcess:
    return KnownProcess(lm)


@pytest.fixture
def model(lm: LanguageModel, process: KnownProcess) -> VllmModel:
    return VllmModel(process, lm.tokenizer, {EOS})


def test_scores_are_those_of_transformers(lm, model: VllmModel, process: KnownProcess) -> None:
    """Sums of log p over whole candidates, each where it belongs, whatever the batches."""
    prompts = make_prompts(0, 20, [1, 2, 5, 23, 40])
    expected = lm.score(prompts, CANDIDATES)
    np.testing.assert_allclose(model.score(prompts, CANDIDATES), expected, atol=2e-4)
    np.testing.assert_allclose(model.score(prompts, CANDIDATES, batch_size=2), expected, atol=2e-4)
    sizes = [len({tuple(one["prompt"]) for one in asked}) for asked in process.asked[1:]]
    assert len(sizes) == 3  # two prompts in each question, and the last one alone


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=8),
)
def test_each_token_of_each_candidate_is_asked_for_once(candidates: list[list[int]]) -> None:
    """A token that is counted twice, or for another label with the same beginning, would move
    rows to a wrong label; a beginning that is asked for twice would be read twice."""
    counted = [[] for _ in candidates]
    beginnings = []
    for said, wanted, places in list_questions(candidates):
        beginnings.append(said)
        for token in wanted:
            for place in places[token]:
                counted[place].append((*said, token))
    for candidate, tokens in zip(candidates, counted, strict=True):
        assert sorted(tokens, key=len) == [
            tuple(candidate[:length]) for length in range(1, len(candidate) + 1)
        ]
    assert len(beginnings) == len(set(beginnings))


def test_more_tokens_than_vllm_tells_at_once_are_asked_for_in_parts() -> None:
    """A task of 300 labels: vLLM refuses a request for more than 128."""
    questions = list(list_questions([[token] for token in range(300)]))
    assert [len(wanted) for _, wanted, _ in questions] == [128, 128, 44]
    assert [token for _, wanted, _ in questions for token in wanted] == list(range(300))


def test_texts_come_in_the_order_of_the_prompts(lm, model: VllmModel) -> None:
    """Prompts are asked for by length; a row must not be filed under another request."""
    prompts = make_prompts(1, 5, [3, 30, 1, 9, 9])
    made = model.generate(prompts, max_new_tokens=8, batch_size=2)
    assert made == lm.generate(prompts, max_new_tokens=8)


def test_a_request_says_all_that_shapes_its_row(model: VllmModel, process: KnownProcess) -> None:
    """A seed of the request alone, the same in any company; the end of a turn beside that of the
    text; a limit that is forgotten would be vLLM's own."""
    prompts = make_prompts(2, 0, [3, 8])
    shape = {"temperature": 0.7, "top_k": 50, "top_p": 0.9}
    model.generate(prompts, max_new_tokens=4, seed=[2**64 - 1, 12], stop_at_newline=True, **shape)
    model.generate(prompts[:1], max_new_tokens=4, seed=[2**64 - 1], **shape)
    (second, first), (alone,) = process.asked
    assert first == {
        "prompt": prompts[0],
        "max_tokens": 4,
        "end_ids": [EOS],
        "stops_at_newline": True,
        "seed": first["seed"],
        **shape,
    }
    assert 0 <= first["seed"] < 2**63  # more vLLM does not take
    assert alone["seed"] == first["seed"] != second["seed"]
    assert not alone["stops_at_newline"]


def test_the_line_that_stops_a_text_is_cut_off(lm, process: KnownProcess) -> None:
    """vLLM may draw past the line break in the step that finds it; a row is one line."""
    ids = lm.tokenizer.encode("\nlate\nand", add_special_tokens=False)
    process._answer = lambda request: {"ids": ids, "finished": True}
    made = VllmModel(process, lm.tokenizer, {EOS}).generate(
        [[5]], max_new_tokens=9, stop_at_newline=True
    )
    assert [(one.text, one.num_tokens, one.finished) for one in made] == [
        ("\nlate", len(ids), True)
    ]

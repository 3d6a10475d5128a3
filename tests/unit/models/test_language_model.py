"""Batched, cached inference against the plain forward of one sequence at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.cases import count_cases

from loam_runtime.models.language_model import LanguageModel

EOS = 1
WINDOW = 16


def score_plainly(lm: LanguageModel, prompt: list[int], candidate: list[int]) -> float:
    """Sum of log p by one forward without cache, batch or padding."""
    with torch.no_grad():
        logits = lm.model(torch.tensor([prompt + candidate]), use_cache=False).logits[0]
    log_probs = logits.double().log_softmax(-1)
    start = len(prompt) - 1
    return sum(float(log_probs[start + i, token]) for i, token in enumerate(candidate))


def continue_plainly(lm: LanguageModel, prompt: list[int], max_new_tokens: int) -> list[int]:
    """Greedy tokens, each by a forward of everything so far."""
    ids = list(prompt)
    for _ in range(max_new_tokens):
        with torch.no_grad():
            token = int(lm.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        ids.append(token)
        if token == EOS:
            break
    return ids[len(prompt) :]


def make_prompts(seed: int, num_shared: int, suffix_lengths: list[int]) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    shared = rng.integers(5, 320, num_shared).tolist()
    return [shared + rng.integers(5, 320, length).tolist() for length in suffix_lengths]


CANDIDATES = [[7, EOS], [7, 9, EOS], [300], [11, 12, 13, 14, EOS]]


@pytest.mark.parametrize("num_shared", [0, 4, WINDOW - 1, WINDOW, 3 * WINDOW])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_scores_equal_a_plain_forward(any_lm, num_shared: int, batch_size: int) -> None:
    """A score is the model's own log p, whatever the prefix, the padding and the batch.

    Prevents a shared prefix longer than a sliding window, or a gap of padding inside one, from
    changing what the model sees.
    """
    prompts = make_prompts(0, num_shared, [1, 2, 5, WINDOW + 7, 40])
    scores = any_lm.score(prompts, CANDIDATES, batch_size=batch_size)
    expected = [[score_plainly(any_lm, p, c) for c in CANDIDATES] for p in prompts]
    np.testing.assert_allclose(scores, expected, atol=2e-4)


@settings(max_examples=count_cases(25), deadline=None)
@given(
    seed=st.integers(0, 10),
    num_shared=st.integers(0, 40),
    lengths=st.lists(st.integers(1, 24), min_size=1, max_size=5),
    batch_size=st.integers(1, 6),
)
def test_scores_equal_a_plain_forward_for_any_lengths(
    lm, seed: int, num_shared: int, lengths: list[int], batch_size: int
) -> None:
    """As above, over many shapes, among them prefixes shorter than the padding."""
    prompts = make_prompts(seed, num_shared, lengths)
    scores = lm.score(prompts, CANDIDATES, batch_size=batch_size)
    expected = [[score_plainly(lm, p, c) for c in CANDIDATES] for p in prompts]
    np.testing.assert_allclose(scores, expected, atol=2e-4)


@pytest.mark.parametrize("num_shared", [0, 3 * WINDOW])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_greedy_generation_equals_a_plain_loop(any_lm, num_shared: int, batch_size: int) -> None:
    """Greedy text is that of one sequence at a time, in the order of the prompts.

    Prevents padding, rows that leave the batch, or the sort by length from mixing sequences.
    """
    prompts = make_prompts(1, num_shared, [3, 30, 1, 9, 9])
    results = any_lm.generate(prompts, max_new_tokens=24, batch_size=batch_size)
    for prompt, result in zip(prompts, results, strict=True):
        expected = continue_plainly(any_lm, prompt, 24)
        assert result.text == any_lm.tokenizer.decode(expected, skip_special_tokens=True)
        assert result.num_tokens == len(expected)
        assert result.finished == (expected[-1] == EOS)


def test_sampling_is_seeded_and_independent_of_the_batch(lm) -> None:
    """A prompt's draws depend on seed and index alone, so a resumed or resized run repeats them."""
    prompts = make_prompts(2, 5, [3, 8, 1, 6])
    options = {"max_new_tokens": 12, "temperature": 1.0, "top_k": 50}
    first = lm.generate(prompts, seed=1, batch_size=4, **options)
    assert lm.generate(prompts, seed=1, batch_size=1, **options) == first
    assert lm.generate(prompts, seed=2, batch_size=4, **options) != first


def test_a_prompt_with_a_seed_of_its_own_has_its_draws_anywhere(lm) -> None:
    """The base model's answer to a request is the same whatever was asked beside it: a run that is
    started again finds some answers in its journal and generates the rest."""
    prompts = make_prompts(2, 5, [3, 8, 1, 6])
    options = {"max_new_tokens": 12, "temperature": 1.0, "top_k": 50}
    all_four = lm.generate(prompts, seed=[11, 12, 13, 14], **options)
    assert lm.generate(prompts[::-1][:3], seed=[14, 13, 12], **options) == all_four[:0:-1]
    assert lm.generate(prompts, seed=[11, 12, 13, 15], **options)[3] != all_four[3]


def test_a_kept_prefix_changes_nothing(lm) -> None:
    """A prefix is used for the prompts that begin with it, and for no others."""
    keeping = LanguageModel(lm.model, lm.tokenizer, keeps_prefix=True)
    calls = [make_prompts(seed, 20, [3, 5, 8]) for seed in (4, 4, 5, 4)]
    for prompts in calls:
        assert np.array_equal(keeping.score(prompts, CANDIDATES), lm.score(prompts, CANDIDATES))
        options = {"max_new_tokens": 5, "temperature": 1.0, "seed": 3}
        assert keeping.generate(prompts, **options) == lm.generate(prompts, **options)


def test_equal_prompts_are_sampled_apart(lm) -> None:
    """n draws of one prompt are n draws, not one draw n times."""
    prompt = make_prompts(3, 0, [6])[0]
    results = lm.generate([prompt] * 8, max_new_tokens=12, temperature=1.0, seed=0)
    assert len({result.text for result in results}) == 8


def test_generation_leaves_the_global_random_state_alone(lm) -> None:
    """Evaluating between two training steps must not change the second's dropout."""
    state = torch.get_rng_state()
    lm.generate(make_prompts(0, 0, [4]), max_new_tokens=4, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_model_keeps_its_mode(lm) -> None:
    """An evaluation in the midst of training must not switch dropout off for the rest of it."""
    lm.model.train()
    try:
        lm.generate(make_prompts(0, 0, [4]), max_new_tokens=1)
        lm.score(make_prompts(0, 0, [4]), CANDIDATES)
        assert lm.model.training
    finally:
        lm.model.eval()


class _Scripted(torch.nn.Module):
    """Says one fixed text after any prompt, as a model with a cache would."""

    def __init__(self, lm: LanguageModel, text: str) -> None:
        super().__init__()
        self.inner = lm.model
        self.script = [*lm.tokenizer(text, add_special_tokens=False)["input_ids"], EOS]
        self.num_calls = 0

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, **inputs):
        output = self.inner(**inputs)
        output.logits[:] = 0
        output.logits[..., self.script[self.num_calls]] = 1
        self.num_calls += 1
        return output


@pytest.mark.parametrize(
    ("said", "stop", "text", "finished"),
    [
        (" good\nText: next", True, " good", True),
        ("\n good\nText", True, "\n good", True),
        (" good\nbad", False, " good\nbad", True),
        (" good", True, " good", True),
        (" x" * 40, True, None, False),
    ],
)
def test_an_answer_ends_at_the_line_break_after_visible_text(
    lm, said: str, stop: bool, text: str | None, finished: bool
) -> None:
    """A base model goes on with the next example after its answer; none of it is the answer."""
    scripted = LanguageModel(_Scripted(lm, said), lm.tokenizer)
    (result,) = scripted.generate([[5, 6]], max_new_tokens=20, stop_at_newline=stop)
    assert result.finished == finished
    if text is not None:
        assert result.text == text


def test_progress_counts_every_prompt_once(lm) -> None:
    """The total shown is the number of prompts."""
    done: list[int] = []
    prompts = make_prompts(0, 10, [1, 2, 3, 4, 5])
    lm.generate(prompts, max_new_tokens=2, batch_size=2, on_progress=done.append)
    assert done == [2, 2, 1]
    done.clear()
    lm.score(prompts, CANDIDATES, batch_size=2, on_progress=done.append)
    assert sum(done) == 5


def test_nothing_to_do_is_no_error(lm) -> None:
    """An empty class of rows or an empty test set does not end the job."""
    assert lm.generate([], max_new_tokens=3) == []
    assert lm.score([], CANDIDATES).shape == (0, len(CANDIDATES))

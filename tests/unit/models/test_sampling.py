"""Draws follow the distribution that temperature, top-k and top-p leave."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.cases import count_cases

from loam_runtime.models.sampling import Sampler

LOGITS = torch.tensor([0.5, 2.0, 1.0, -1.0, 0.0])


def draw_many(sampler: Sampler, count: int) -> torch.Tensor:
    generators = sampler.make_generators(range(count))
    return sampler.draw(LOGITS.expand(count, -1), generators)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_probabilities(temperature: float) -> None:
    """Sampled text is the model's distribution, sharpened by nothing else."""
    drawn = draw_many(Sampler(temperature, 0, 1.0, seed=3), 20_000)
    frequencies = torch.bincount(drawn, minlength=5) / 20_000
    expected = (LOGITS / temperature).softmax(-1)
    assert torch.allclose(frequencies, expected, atol=0.015)


def test_top_k_leaves_the_k_likeliest() -> None:
    """What top-k cuts is never drawn, and all that it leaves is."""
    assert set(draw_many(Sampler(5.0, 2, 1.0, seed=0), 500).tolist()) == {1, 2}


def test_top_p_leaves_the_smallest_sufficient_head() -> None:
    """Probabilities are .55, .20, .12, ...: 0.7 needs the first two."""
    assert set(draw_many(Sampler(1.0, 0, 0.7, seed=0), 500).tolist()) == {1, 2}


def test_a_tiny_top_p_is_greedy() -> None:
    """The likeliest token is always left."""
    assert set(draw_many(Sampler(1.0, 0, 1e-9, seed=0), 50).tolist()) == {1}


def test_temperature_0_is_greedy() -> None:
    assert set(draw_many(Sampler(0.0, 0, 1.0, seed=0), 5).tolist()) == {1}


def test_a_draw_at_the_very_top_names_a_possible_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """uniform * total may round up to the total, behind the last token of any probability."""
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.ones(1, dtype=torch.double))
    row = torch.tensor([[0.0, 1.0, -torch.inf]])
    sampler = Sampler(1.0, 0, 1.0, seed=0)
    assert sampler.draw(row, sampler.make_generators([0])).tolist() == [1]


@settings(max_examples=count_cases(60), deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    top_k=st.integers(0, 7),
    top_p=st.floats(0.01, 1),
    logits=st.lists(st.floats(-40, 40), min_size=1, max_size=6),
)
def test_an_impossible_token_is_never_drawn(
    seed: int, top_k: int, top_p: float, logits: list[float]
) -> None:
    """Rounding at the end of the cumulative sum must not name a token of probability 0."""
    row = torch.tensor([[*logits, -torch.inf, -torch.inf]])
    sampler = Sampler(1.0, top_k, top_p, seed)
    drawn = int(sampler.draw(row, sampler.make_generators([0])))
    assert row[0, drawn] > -torch.inf

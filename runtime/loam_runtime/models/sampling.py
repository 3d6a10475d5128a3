"""Drawing the next token: one random stream per sequence, so that batching changes no draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Sampler:
    """Temperature, then top-k, then top-p (nucleus) sampling; greedy at temperature 0.

    Each sequence draws from a generator of its own: what it draws depends neither on the batch it
    is in nor on the sequences beside it.

    Args:
        seed: of all sequences, each then seeded by it and its index among all prompts; or one for
            each, which alone seeds it.
    """

    def __init__(
        self, temperature: float, top_k: int, top_p: float, seed: int | Sequence[int]
    ) -> None:
        self._temperature = temperature
        self._top_k = top_k
        self._top_p = top_p
        self._seed = seed

    def make_generators(self, indices: Sequence[int]) -> list[torch.Generator]:
        """One generator per sequence, by its index among all prompts."""
        return [torch.Generator().manual_seed(self.derive_seed(index)) for index in indices]

    def derive_seed(self, index: int) -> int:
        """Of the sequence with this index among all prompts: 63 bits."""
        if isinstance(self._seed, int):
            return _mix(self._seed, index)
        return _mix(self._seed[index], 0)

    def draw(self, logits: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Token ids [batch] from `logits` [batch, vocabulary]."""
        if self._temperature == 0:
            return logits.argmax(-1)
        scaled = logits.float() / self._temperature
        if self._top_k or self._top_p < 1:
            scaled, ids = scaled.topk(min(self._top_k or scaled.shape[-1], scaled.shape[-1]))
            probabilities = self._cut_nucleus(scaled.softmax(-1))
            return ids.gather(-1, _invert_cdf(probabilities, generators)).squeeze(-1)
        return _invert_cdf(scaled.softmax(-1), generators).squeeze(-1)

    def _cut_nucleus(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Zero what comes after the smallest head of at least top-p; `probabilities` descend."""
        mass_before = probabilities.cumsum(-1) - probabilities
        return probabilities.masked_fill(mass_before >= self._top_p, 0)


def _invert_cdf(probabilities: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """One index [batch, 1] drawn in proportion to each row of `probabilities`."""
    # Float64: over 262,144 tokens the float32 sum is off by more than a rare token's share.
    cdf = probabilities.double().cumsum(-1)
    uniform = torch.stack([torch.rand(1, generator=one, dtype=torch.double) for one in generators])
    # Right of equal values: a token of probability 0 is never drawn. The top is clamped because
    # uniform * total may round up to total.
    index = torch.searchsorted(cdf, uniform.to(cdf.device) * cdf[:, -1:], right=True)
    last = (probabilities > 0).long().cumsum(-1).argmax(-1, keepdim=True)
    return torch.minimum(index, last)


def _mix(seed: int, index: int) -> int:
    """A 63-bit seed; neighbours in either argument give unrelated streams (SplitMix64)."""
    value = (seed * 0x9E3779B97F4A7C15 + index + 1) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 31)) * 0x94D049BB133111EB % 2**64
    return (value ^ (value >> 29)) >> 1

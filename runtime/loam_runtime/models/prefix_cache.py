"""Prompts in batches over one key-value cache of the tokens with which all of them begin.

A batch is padded on the left, where padding leaves every distance between tokens as it is, so
sliding windows stay right. With S columns for the longest suffix, a prompt with a suffix of s
tokens reads the last S - s tokens of the shared prefix again, and its cached part slides right:

    shared prefix  A B C D E F, suffixes  x  and  y z  (S = 2)
    columns        0 1 2 3 4 5 | 6 7
    prompt 1       . A B C D E | F x      one column of padding, F is read again
    prompt 2       A B C D E F | y z
                   from cache  | computed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from loam_runtime.models.roomy_cache import has_plain_attention, make_cache

# What the first tokens of a batch may cost again; a shorter prefix is not worth a cache.
_SHORTEST_PREFIX = 8


@dataclass(slots=True)
class Prefilled:
    """A batch of prompts after its first forward.

    Attributes:
        cache: keys and values of all columns.
        mask: [batch, columns], 0 on padding.
        lengths: [batch], true number of tokens of each prompt: the position of its next token.
        logits: [batch, vocabulary], of the token that follows each prompt.
    """

    cache: Cache
    mask: torch.Tensor
    lengths: torch.Tensor
    logits: torch.Tensor


class PrefixCache:
    """The common beginning of prompts, computed once and shared by every batch of them.

    Args:
        tokens: as `find_prefix` found them; empty for none.
    """

    def __init__(self, model: PreTrainedModel, tokens: Sequence[int]) -> None:
        self.tokens = list(tokens)
        self._model = model
        self._device = model.device
        self._prefix: Sequence[int] = ()
        self._keys_values: list[tuple[torch.Tensor, torch.Tensor]] = []
        if tokens and has_plain_attention(model):
            self._prefix = self.tokens
            self._keys_values = self._compute_prefix()

    def _compute_prefix(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        cache = make_cache(self._model)
        ids = torch.tensor([self._prefix], device=self._device)
        self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Prefilled:
        """The first forward of a batch; the head is applied at each prompt's last token only."""
        longest = max(map(len, prompts))
        gaps = [longest - len(prompt) for prompt in prompts]
        num_cached = len(self._prefix)
        num_columns = longest - num_cached
        rows = [[0] * max(0, num_columns - len(p)) + list(p[-num_columns:]) for p in prompts]
        ids = torch.tensor(rows, device=self._device)
        gap = torch.tensor(gaps, device=self._device)
        columns = torch.arange(longest, device=self._device)
        mask = (columns >= gap[:, None]).long()
        cache = make_cache(self._model)
        if num_cached:
            self._fill(cache, gap)
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(columns - gap[:, None]).clamp(min=0)[:, num_cached:],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return Prefilled(output.past_key_values, mask, longest - gap, output.logits[:, -1])

    def _fill(self, cache: Cache, gap: torch.Tensor) -> None:
        """Put the prefix into an empty cache, each row slid right by its gap."""
        columns = torch.arange(len(self._prefix), device=self._device)
        source = (columns - gap[:, None]).clamp(min=0)  # padding takes any value: it is masked
        for index, (keys, values) in enumerate(self._keys_values):
            # [1, heads, prefix, dim] -> [batch, heads, prefix, dim]
            slid = [part[0][:, source].transpose(0, 1) for part in (keys, values)]
            cache.update(*slid, index)


def find_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens with which all prompts begin, where to keep them saves work; else none."""
    length = _measure_common_prefix(prompts)
    return list(prompts[0][:length]) if len(prompts) > 1 and length >= _SHORTEST_PREFIX else []


def iterate_batches(prompts: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Indices of prompts, longest first, so that padding is least and memory peaks at once."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _measure_common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each keeps at least one token of its own."""
    if not prompts:
        return 0
    # What the first and the last in dictionary order share, all between them share too.
    first, last = list(min(prompts)), list(max(prompts))
    most = min(map(len, prompts)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)

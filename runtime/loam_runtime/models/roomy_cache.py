"""A key-value cache with room ahead, and forks of it that share what is there already.

transformers' own layers copy all keys and values whenever a token is added. Behind a prompt of
1,200 tokens that was half of the time of scoring six labels.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

# Tokens that fit before the buffers are copied: more than most labels and short answers have.
_ROOM = 64
_PLAIN_LAYERS = {"full_attention", "sliding_attention"}


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer as views of larger buffers, written in place.

    All tokens are kept in sliding layers too; the attention masks hide what is out of a window.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [batch, heads, tokens, dim]; return all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._buffers = (
                _enlarge(self.keys, key_states, start, end + _ROOM),
                _enlarge(self.values, value_states, start, end + _ROOM),
            )
        keys, values = self._buffers
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row `repeats` times."""
        super().batch_repeat_interleave(repeats)
        self._buffers = None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Only the rows at `indices`."""
        super().batch_select_indices(indices)
        self._buffers = None


def _enlarge(old: torch.Tensor, new: torch.Tensor, length: int, capacity: int) -> torch.Tensor:
    """A buffer like `new` for `capacity` tokens that begins with the `length` tokens of `old`."""
    batch, heads, _, dim = new.shape
    buffer = new.new_empty(batch, heads, capacity, dim)
    if length:
        buffer[:, :, :length] = old
    return buffer


def has_plain_attention(model: PreTrainedModel) -> bool:
    """Whether every layer keeps keys and values by token: recurrent and chunked ones do not."""
    layer_types = getattr(model.config.get_text_config(), "layer_types", None)
    return layer_types is None or set(layer_types) <= _PLAIN_LAYERS


def make_cache(model: PreTrainedModel) -> Cache:
    """An empty cache for the model."""
    if has_plain_attention(model):
        return Cache(layer_class_to_replicate=RoomyLayer)
    return DynamicCache(config=model.config)


def fork_cache(cache: Cache, repeats: int) -> Cache:
    """A cache that goes on from `cache` and leaves it as it is, every row `repeats` times.

    With `repeats` of 1 nothing is copied: a fork writes into the room behind what they share.
    So only one fork of a cache may be in use at a time, and not the cache itself beside it.
    """
    if all(isinstance(layer, RoomyLayer) for layer in cache.layers):
        fork = copy.copy(cache)
        fork.layers = [copy.copy(layer) for layer in cache.layers]
    else:
        fork = copy.deepcopy(cache)
    if repeats > 1:
        fork.batch_repeat_interleave(repeats)
    return fork

"""Rows to tensors: right padding, and the positions whose next token is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from loam_runtime.data.template import EncodedExample


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples of one forward pass. B examples, T tokens after padding, P supervised positions.

    Attributes:
        input_ids: int64 [B, T].
        attention_mask: int64 [B, T], 0 at padding.
        positions: int64 [P], indices into the flattened [B * T] whose next token is learned.
            Found here, on the CPU: finding them on a GPU would make it wait for the host.
        targets: int64 [P], those next tokens.
        weights: float32 [P], those of the rows; 0 for the placeholder of an empty micro-batch.
        num_tokens: tokens without padding.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    num_tokens: int

    def to(self, device: torch.device) -> MicroBatch:
        """The same batch on `device`."""
        tensors = (self.input_ids, self.attention_mask, self.positions, self.targets, self.weights)
        moved = (tensor.to(device, non_blocking=True) for tensor in tensors)
        return MicroBatch(*moved, num_tokens=self.num_tokens)


def count_supervised_tokens(row: EncodedExample) -> int:
    """Tokens of a row that are learned. Nothing predicts a row's first token."""
    return len(row.input_ids) - max(1, row.num_prompt_tokens)


def collate(rows: Sequence[EncodedExample]) -> MicroBatch:
    """Pad and stack rows; without rows, one token of weight 0.

    Padding uses token 0: it is masked, never learned, and so need not be the tokenizer's
    padding token (which is often the very EOS that has to be learned).
    """
    if not rows:
        return _build_placeholder()
    longest = max(len(row.input_ids) for row in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    positions, targets, weights = [], [], []
    for index, row in enumerate(rows):
        length, start = len(row.input_ids), max(1, row.num_prompt_tokens)
        input_ids[index, :length] = torch.tensor(row.input_ids)
        attention_mask[index, :length] = 1
        positions.append(torch.arange(start - 1, length - 1) + index * longest)
        targets.append(input_ids[index, start:length])
        weights.append(torch.full((length - start,), row.weight))
    return MicroBatch(
        input_ids,
        attention_mask,
        torch.cat(positions),
        torch.cat(targets),
        torch.cat(weights),
        num_tokens=sum(len(row.input_ids) for row in rows),
    )


def _build_placeholder() -> MicroBatch:
    zero, one = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.int64)
    return MicroBatch(zero, one, zero[0], zero[0], torch.zeros(1), num_tokens=0)

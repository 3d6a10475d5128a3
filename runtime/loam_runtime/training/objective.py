"""Supervised fine-tuning: the summed loss of the tokens that are to be learned.

The vocabulary projection is the dearest part of a small model, and its logits the largest
tensor of any: it is applied only where a target stands. An objective returns a sum, never a
mean: the caller divides by the count of the whole global batch, so that the split into ranks
and micro-batches cannot change the result.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from loam_runtime.errors import InputError
from loam_runtime.training.collate import MicroBatch

POSITIONS_PER_CHUNK = 1024  # of a 262k vocabulary: 1 GiB of fp32 logits at a time
_CHECK_TOLERANCE = 1e-3  # relative; bf16 matmuls of other shapes differ by less than this


class SupervisedObjective(nn.Module):
    """A causal language model together with its loss.

    A module of its own because DDP and FSDP2 attach to the forward pass of one module: head
    and loss must run inside it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MicroBatch, *, returns_logits: bool = False) -> torch.Tensor:
        """Sum of the cross entropy, in nats, over the batch's weighted positions (fp32 scalar).

        Args:
            returns_logits: instead, the logits there: fp32 [positions, vocabulary].
        """
        hidden = self._compute_hidden(batch.input_ids, batch.attention_mask)
        hidden = hidden.flatten(0, 1).index_select(0, batch.positions)
        if returns_logits:
            return self._compute_logits(hidden).float()
        if len(hidden) <= POSITIONS_PER_CHUNK:
            return self._sum_loss(hidden, batch.targets, batch.weights)
        parts = zip(
            hidden.split(POSITIONS_PER_CHUNK),
            batch.targets.split(POSITIONS_PER_CHUNK),
            batch.weights.split(POSITIONS_PER_CHUNK),
            strict=True,
        )
        # Recomputing each chunk in the backward pass keeps the logits of one alive, not of all.
        losses = [checkpoint(self._sum_loss, *part, use_reentrant=False) for part in parts]
        return torch.stack(losses).sum()

    @property
    def causal_model(self) -> nn.Module:
        """The transformers model, without PEFT's wrapper (the adapter's layers stay in it)."""
        unwrap = getattr(self.model, "get_base_model", None)
        return unwrap() if unwrap else self.model

    def _compute_hidden(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        decoder = self.causal_model.get_decoder()
        output = decoder(input_ids=input_ids, attention_mask=mask, use_cache=False)
        return output.last_hidden_state

    def _compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.causal_model.get_output_embeddings()(hidden)
        config = self.causal_model.config.get_text_config()
        softcap = getattr(config, "final_logit_softcapping", None)
        return torch.tanh(logits / softcap) * softcap if softcap else logits

    def _sum_loss(
        self, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        logits = self._compute_logits(hidden).float()
        return (functional.cross_entropy(logits, targets, reduction="none") * weights).sum()

    @torch.no_grad()
    def check_head(self) -> None:
        """Compare with the model's own logits on three tokens.

        Some families scale their logits in their own way; training such a model through a
        plain projection would run and teach it something else.

        Raises:
            InputError: the model's head is more than a projection and a soft cap.
        """
        device = self.causal_model.get_input_embeddings().weight.device
        input_ids = torch.tensor([[1, 2, 3]], device=device)
        was_training = self.training
        self.eval()
        theirs = self.causal_model(input_ids=input_ids, use_cache=False).logits.float()
        hidden = self._compute_hidden(input_ids, torch.ones_like(input_ids))
        difference = (self._compute_logits(hidden).float() - theirs).abs().max()
        self.train(was_training)
        if difference > _CHECK_TOLERANCE * theirs.abs().max().clamp(min=1):
            raise InputError(
                f"Models of type {self.causal_model.config.model_type!r} compute their logits in "
                "a way that Loam does not know.",
                remedy="Choose another base model.",
            )

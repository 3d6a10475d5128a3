"""Generation and scoring with a causal language model, batched, as all stages use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from loam_runtime.models.prefix_cache import (
    Prefilled,
    PrefixCache,
    find_prefix,
    iterate_batches,
)
from loam_runtime.models.roomy_cache import fork_cache
from loam_runtime.models.sampling import Sampler

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Generation:
    """One generated continuation.

    Attributes:
        text: without special tokens, and without what follows the stopping line break.
        num_tokens: drawn, the stopping token included.
        finished: it ended by itself; else it was cut at `max_new_tokens`.
    """

    text: str
    num_tokens: int
    finished: bool


@dataclass(slots=True)
class _Sequence:
    """A continuation in the making."""

    index: int
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)
    finished: bool = False


class LanguageModel:
    """A causal language model with its tokenizer, for inference.

    Args:
        model: a model or a PEFT model; it is used in evaluation mode and left in the mode it was.
        tokenizer: the one the prompts were encoded with.
        keeps_prefix: what the prompts of a call begin with is kept for the next call. Only for a
            model whose weights stay as they are.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        keeps_prefix: bool = False,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._keeps_prefix = keeps_prefix
        self._kept_prefix: PrefixCache | None = None
        self._end_ids = find_end_ids(model.generation_config, tokenizer)
        self._holds_newline: dict[int, bool] = {}

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | Sequence[int] = 0,
        stop_at_newline: bool = False,
        may_end: bool = True,
        batch_size: int = 16,
        on_progress: OnProgress | None = None,
    ) -> list[Generation]:
        """Continue each prompt; results in the order of `prompts`.

        The draws of a prompt depend on its seed and not on `batch_size`. What all prompts begin
        with is computed once.

        Args:
            prompts: token ids, BOS included where the model wants one; none empty.
            temperature: 0 for the most likely token each time.
            top_k: draw among the k most likely tokens; 0 for all.
            top_p: draw among the most likely tokens that together have this probability.
            seed: one for each prompt; or one of all, to which the prompt's index is added.
            stop_at_newline: end at the first line break that follows visible text.
            may_end: whether a continuation may end by itself; else each has `max_new_tokens`.
            on_progress: called with the number of prompts done since the last call.
        """
        sampler = Sampler(temperature, top_k, top_p, seed)
        results: dict[int, Generation] = {}
        with _inference(self.model):
            shared = self._open_prefix(find_prefix(prompts))
            for indices in iterate_batches(prompts, batch_size):
                rows = list(map(_Sequence, indices, sampler.make_generators(indices)))
                prefilled = shared.prefill([prompts[index] for index in indices])
                ends = partial(self._ends, stop_at_newline=stop_at_newline) if may_end else _goes_on
                self._continue(rows, prefilled, sampler, max_new_tokens, ends)
                results |= {row.index: self._finish(row, stop_at_newline) for row in rows}
                if on_progress:
                    on_progress(len(indices))
        return [results[index] for index in range(len(prompts))]

    def _open_prefix(self, tokens: Sequence[int]) -> PrefixCache:
        kept, self._kept_prefix = self._kept_prefix, None
        if kept is None or kept.tokens != list(tokens):
            del kept  # before the next one takes its memory
            kept = PrefixCache(self.model, tokens)
        if self._keeps_prefix:
            self._kept_prefix = kept
        return kept

    def _continue(
        self,
        rows: Sequence[_Sequence],
        state: Prefilled,
        sampler: Sampler,
        max_new_tokens: int,
        ends: Callable[[_Sequence], bool],
    ) -> None:
        """Draw tokens until every row has ended; ended rows leave the batch."""
        for step in range(max_new_tokens):
            drawn = sampler.draw(state.logits, [row.generator for row in rows])
            for row, token in zip(rows, drawn.tolist(), strict=True):
                row.ids.append(token)
                row.finished = ends(row)
            going = [place for place, row in enumerate(rows) if not row.finished]
            if not going or step == max_new_tokens - 1:
                return
            if len(going) < len(rows):
                rows = [rows[place] for place in going]
                keep = torch.tensor(going, device=drawn.device)
                drawn = drawn[keep]
                _select_rows(state, keep)
            self._advance(state, drawn)

    def _advance(self, state: Prefilled, drawn: torch.Tensor) -> None:
        """Read one more token per row."""
        state.mask = torch.cat([state.mask, state.mask.new_ones(len(drawn), 1)], dim=1)
        output = self.model(
            input_ids=drawn[:, None],
            attention_mask=state.mask,
            position_ids=state.lengths[:, None],
            past_key_values=state.cache,
            use_cache=True,
        )
        state.logits = output.logits[:, -1]
        state.lengths = state.lengths + 1

    def _ends(self, row: _Sequence, stop_at_newline: bool) -> bool:
        token = row.ids[-1]
        if token in self._end_ids:
            return True
        return stop_at_newline and self._has_newline(token) and "\n" in self._decode(row).lstrip()

    def _has_newline(self, token: int) -> bool:
        if token not in self._holds_newline:
            self._holds_newline[token] = "\n" in self.tokenizer.decode([token])
        return self._holds_newline[token]

    def _decode(self, row: _Sequence) -> str:
        return self.tokenizer.decode(row.ids, skip_special_tokens=True)

    def _finish(self, row: _Sequence, stop_at_newline: bool) -> Generation:
        text = self._decode(row)
        if stop_at_newline:
            text = cut_at_newline(text)
        return Generation(text, len(row.ids), row.finished)

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[int]],
        *,
        batch_size: int = 16,
        prefix: Sequence[int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> np.ndarray:
        """How likely each candidate is after each prompt.

        A prompt is read once for all candidates, and what all prompts begin with once for all
        prompts; the head is applied where a candidate's tokens are predicted and nowhere else.

        Args:
            prompts: token ids, none empty.
            candidates: token ids, none empty, each with its terminator.
            batch_size: sequences at once, a sequence being one prompt with one candidate.
            prefix: what the prompts begin with and is computed once; by default all they have in
                common. A batch of many gives the same bits alone as among them with theirs.
            on_progress: called with the number of prompts done since the last call.

        Returns:
            float64 [num_prompts, num_candidates]: sum of log p over the candidate's tokens, nats.
        """
        scores = np.zeros((len(prompts), len(candidates)))
        with _inference(self.model):
            shared = self._open_prefix(find_prefix(prompts) if prefix is None else prefix)
            for indices in iterate_batches(prompts, batch_size):
                prefilled = shared.prefill([prompts[index] for index in indices])
                scores[indices] = self._score_batch(prefilled, candidates, batch_size).cpu().numpy()
                if on_progress:
                    on_progress(len(indices))
        return scores

    def _score_batch(
        self, state: Prefilled, candidates: Sequence[Sequence[int]], batch_size: int
    ) -> torch.Tensor:
        """[batch, num_candidates] from a batch of prompts that has been read."""
        first = torch.tensor([candidate[0] for candidate in candidates], device=state.mask.device)
        scores = _gather_log_probs(state.logits, first.expand(len(state.logits), -1))
        by_length = sorted(range(len(candidates)), key=lambda index: len(candidates[index]))
        longer = [index for index in by_length if len(candidates[index]) > 1]
        group_size = max(1, batch_size // len(state.logits))
        for start in range(0, len(longer), group_size):
            group = longer[start : start + group_size]
            scores[:, group] += self._score_further(state, [candidates[index] for index in group])
        return scores

    def _score_further(self, state: Prefilled, candidates: Sequence[Sequence[int]]) -> torch.Tensor:
        """Log p of the candidates' tokens after the first, summed: [batch, num_candidates]."""
        batch, width = len(state.lengths), max(map(len, candidates)) - 1
        ids, valid = _pad_right(candidates, width + 1, state.mask.device)
        inputs, targets, valid = (
            part.repeat(batch, 1) for part in (ids[:, :-1], ids[:, 1:], valid[:, 1:])
        )
        cache = fork_cache(state.cache, len(candidates))
        mask = state.mask.repeat_interleave(len(candidates), 0)
        lengths = state.lengths.repeat_interleave(len(candidates))
        output = self.model(
            input_ids=inputs,
            # Causality hides the padding on the right from what precedes it.
            attention_mask=torch.cat([mask, torch.ones_like(inputs)], dim=1),
            position_ids=lengths[:, None] + torch.arange(width, device=ids.device),
            past_key_values=cache,
            use_cache=True,
        )
        log_probs = _gather_log_probs(output.logits, targets[..., None]).squeeze(-1)
        return (log_probs * valid).sum(-1).view(batch, len(candidates))


def _goes_on(row: _Sequence) -> bool:
    return False


def _pad_right(
    rows: Sequence[Sequence[int]], width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [rows, width] padded with any token, and the mask of what is not padding."""
    padded = [[*row, *[row[-1]] * (width - len(row))] for row in rows]
    counts = torch.tensor([len(row) for row in rows], device=device)
    columns = torch.arange(width, device=device)
    return torch.tensor(padded, device=device), columns < counts[:, None]


def _gather_log_probs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Float64 log p of `ids` [..., n] under `logits` [..., vocabulary]."""
    normalizer = logits.float().logsumexp(-1, keepdim=True)
    return (logits.gather(-1, ids).float() - normalizer).double()


def _select_rows(state: Prefilled, keep: torch.Tensor) -> None:
    state.cache.batch_select_indices(keep)
    state.mask, state.lengths = state.mask[keep], state.lengths[keep]


def find_end_ids(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """What may end an answer: a chat model's end of turn is often in its generation config only."""
    ids = config.eos_token_id
    listed = ids if isinstance(ids, list) else [ids]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}


def cut_at_newline(text: str) -> str:
    """What stands before the first line break that follows visible text."""
    start = len(text) - len(text.lstrip())
    end = text.find("\n", start)
    return text if end < 0 else text[:end]


@contextmanager
def _inference(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the model's own mode comes back at the end."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)

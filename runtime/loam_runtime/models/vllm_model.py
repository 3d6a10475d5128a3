"""A language model that vLLM runs: what `LanguageModel` offers to the teacher, by its rules.

Log p is that of the same model in the same precision, up to rounding. Draws are seeded one by one
as there, but by vLLM's own random numbers: the same seed gives other rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loam_runtime.models.language_model import Generation, cut_at_newline, find_end_ids
from loam_runtime.models.loading import load_tokenizer
from loam_runtime.models.prefix_cache import iterate_batches
from loam_runtime.models.sampling import Sampler
from loam_runtime.models.vllm_choice import VLLM_BATCH
from loam_runtime.models.vllm_process import VllmProcess

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of a GPU's memory, for weights, keys and values. The rest is for what else runs there: the
# pipeline's own CUDA context, and the embeddings of the filters.
MEMORY_SHARE = 0.85
_CPU_TOKENS = 8192
_MAX_WANTED = 128  # tokens whose log p one request of vLLM tells
_DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


class VllmModel:
    """A causal language model in a process of vLLM.

    Args:
        process: with the model loaded.
        end_ids: tokens that end an answer.
    """

    def __init__(
        self, process: VllmProcess, tokenizer: PreTrainedTokenizerBase, end_ids: set[int]
    ) -> None:
        self.tokenizer = tokenizer
        self._process = process
        self._end_ids = sorted(end_ids)

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
        batch_size: int = VLLM_BATCH,
    ) -> list[Generation]:
        """See `LanguageModel.generate`."""
        seeds = Sampler(temperature, top_k, top_p, seed)
        shape = {
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "end_ids": self._end_ids,
            "stops_at_newline": stop_at_newline,
        }
        results: dict[int, Generation] = {}
        for indices in iterate_batches(prompts, batch_size):
            requests = [
                {**shape, "prompt": list(prompts[index]), "seed": seeds.derive_seed(index)}
                for index in indices
            ]
            answers = self._process.ask("answer", requests=requests)
            for index, answer in zip(indices, answers, strict=True):
                results[index] = self._read(answer, stop_at_newline)
        return [results[index] for index in range(len(prompts))]

    def _read(self, answer: dict[str, Any], stop_at_newline: bool) -> Generation:
        text = self.tokenizer.decode(answer["ids"], skip_special_tokens=True)
        if stop_at_newline:
            text = cut_at_newline(text)
        return Generation(text, len(answer["ids"]), answer["finished"])

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[int]],
        *,
        batch_size: int = VLLM_BATCH,
        prefix: Sequence[int] | None = None,
    ) -> np.ndarray:
        """See `LanguageModel.score`; vLLM finds by itself what prompts have in common."""
        questions = list(list_questions(candidates))
        scores = np.zeros((len(prompts), len(candidates)))
        for indices in iterate_batches(prompts, batch_size):
            requests = [
                {"prompt": [*prompts[index], *said], "wanted": wanted}
                for index in indices
                for said, wanted, _ in questions
            ]
            answers = iter(self._process.ask("answer", requests=requests))
            for index in indices:
                for _, wanted, places in questions:
                    log_probs = next(answers)["log_probs"]
                    for token, log_prob in zip(wanted, log_probs, strict=True):
                        scores[index, places[token]] += log_prob
        return scores


def list_questions(
    candidates: Sequence[Sequence[int]],
) -> Iterator[tuple[tuple[int, ...], list[int], dict[int, list[int]]]]:
    """What to ask so that every token of every candidate is asked for once.

    Yields:
        What has been said after the prompt, the tokens whose log p is wanted next (128 at most),
        and for each of them the candidates that go on with it.
    """
    tree: dict[tuple[int, ...], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, candidate in enumerate(candidates):
        for length, token in enumerate(candidate):
            tree[tuple(candidate[:length])][token].append(place)
    for said, places in tree.items():
        tokens = list(places)
        for start in range(0, len(tokens), _MAX_WANTED):
            yield said, tokens[start : start + _MAX_WANTED], places


def open_vllm(process: VllmProcess, folder: Path, device: str, precision: str) -> VllmModel:
    """The model of a folder in a process that has none yet.

    Raises:
        ReplicaLost: the process has ended.
        LoamError: vLLM cannot load the model.
    """
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    process.ask("load", **_build_arguments(folder, device, precision, config))
    tokenizer = load_tokenizer(folder)
    own = (folder / "generation_config.json").is_file()
    generation = (
        GenerationConfig.from_pretrained(folder, local_files_only=True)
        if own
        else GenerationConfig.from_model_config(config)
    )
    return VllmModel(process, tokenizer, find_end_ids(generation, tokenizer))


def _build_arguments(folder: Path, device: str, precision: str, config: Any) -> dict[str, Any]:
    arguments = {
        "model": str(folder),
        "dtype": _DTYPES[precision],
        "load_format": "safetensors",
        "trust_remote_code": False,
        "generation_config": "vllm",  # no sampling but what a request says
        "enable_prefix_caching": True,
        "max_num_seqs": VLLM_BATCH,
        "max_logprobs": _MAX_WANTED,
        "async_scheduling": False,
        "distributed_executor_backend": "uni",
        "disable_log_stats": True,
        "seed": 0,
    }
    if device != "cpu":
        return arguments | {"gpu_memory_utilization": MEMORY_SHARE, "max_model_len": -1}
    # vLLM (0.32) on a CPU cannot take back the draw of a prompt that it reads in parts.
    length = min(config.get_text_config().max_position_embeddings, _CPU_TOKENS)
    return arguments | {
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_model_len": length,
        "max_num_batched_tokens": _CPU_TOKENS,
    }

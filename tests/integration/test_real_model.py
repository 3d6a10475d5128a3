"""The real model, from its package to a folder that every stage loads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from safetensors import safe_open

from loam_runtime.models.facts import read_model_facts
from loam_runtime.models.folder import prepare_model_folder
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import load_base, load_tokenizer

FETCH = Path(__file__).parents[2] / "examples" / "fetch_model.py"


def fetch(destination: Path) -> str:
    command = [sys.executable, str(FETCH), str(destination)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "deep" / "gemma.gguf"
    assert "written" in fetch(path)
    return path


@pytest.fixture(scope="module")
def folder(gguf_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The model converted into an empty cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield prepare_model_folder(gguf_file)


def test_a_model_that_is_there_is_left_alone(gguf_file: Path) -> None:
    """`make demo` again copies nothing; a damaged file is replaced whole."""
    before = gguf_file.stat().st_mtime_ns
    assert "already there" in fetch(gguf_file)
    assert gguf_file.stat().st_mtime_ns == before
    damaged = gguf_file.with_name("damaged.gguf")
    damaged.write_bytes(b"GGUF")
    assert "written" in fetch(damaged)
    assert damaged.stat().st_size == gguf_file.stat().st_size
    damaged.unlink()
    assert sorted(gguf_file.parent.iterdir()) == [gguf_file]


def test_the_converted_weights_are_the_files_own(gguf_file: Path, folder: Path) -> None:
    """Dequantized by the gguf package, each checked tensor is the same up to bfloat16 rounding."""
    tensors = {tensor.name: tensor for tensor in GGUFReader(gguf_file).tensors}
    with safe_open(folder / "model.safetensors", framework="pt") as converted:
        for theirs, ours in (
            ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"),
            ("blk.17.attn_q.weight", "model.layers.17.self_attn.q_proj.weight"),
        ):
            expected = dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
            actual = converted.get_tensor(ours)
            assert actual.dtype == torch.bfloat16
            np.testing.assert_allclose(actual.float().numpy(), expected, rtol=2**-8)
    planned, stored = read_model_facts(gguf_file), read_model_facts(folder)
    assert {**planned, "model_type": ""} == {**stored, "model_type": ""}


def test_the_converted_model_works(folder: Path) -> None:
    """Its tokenizer puts one BOS and loses no text; the model prefers what is true."""
    tokenizer = load_tokenizer(folder)
    text = "Two  spaces,\n\na line, naïve 日本 😀"
    ids = tokenizer(text)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    lm = LanguageModel(load_base(folder, device="cpu", dtype=torch.float32), tokenizer)
    prompts = [
        tokenizer(f"The capital of {country} is the city of")["input_ids"]
        for country in ("France", "Italy")
    ]
    cities = [
        tokenizer(f" {city}", add_special_tokens=False)["input_ids"] for city in ("Paris", "Rome")
    ]
    assert lm.score(prompts, cities).argmax(-1).tolist() == [0, 1]
    (answer,) = lm.generate(prompts[:1], max_new_tokens=3)
    assert "Paris" in answer.text

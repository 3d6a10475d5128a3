"""What a plan knows of a model before torch is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tools.tiny_models import write_tiny_gguf
from transformers import AutoModelForCausalLM

from loam_runtime.errors import InputError
from loam_runtime.models.facts import read_model_facts


def test_facts_are_those_of_the_loaded_model(any_tiny_folder: Path) -> None:
    """The header alone tells what torch would: memory plans rest on these figures."""
    facts = read_model_facts(any_tiny_folder)
    model = AutoModelForCausalLM.from_pretrained(any_tiny_folder)
    config = model.config
    assert facts["num_parameters"] == sum(p.numel() for p in model.parameters())
    assert facts["weight_bytes"] == 4 * facts["num_parameters"]
    assert facts["hidden_size"] == config.hidden_size
    assert facts["num_layers"] == config.num_hidden_layers
    assert facts["vocab_size"] == config.vocab_size
    assert facts["intermediate_size"] == config.intermediate_size
    assert facts["num_attention_heads"] == config.num_attention_heads
    assert facts["num_key_value_heads"] == config.num_key_value_heads
    assert facts["head_dim"] == config.head_dim
    assert facts["tie_word_embeddings"] == config.tie_word_embeddings
    assert facts["max_position_embeddings"] == config.max_position_embeddings


def test_facts_of_a_gguf_come_from_its_header(tmp_path: Path) -> None:
    """A .gguf is planned for without being converted."""
    facts = read_model_facts(write_tiny_gguf(tmp_path / "m.gguf"))
    assert read_model_facts(tmp_path) == facts
    assert facts == {
        "model_type": "gemma3",
        "num_parameters": 300 * 32 + 32 * 32,
        "weight_bytes": 2 * (300 * 32 + 32 * 32),
        "hidden_size": 32,
        "num_layers": 4,
        "vocab_size": 300,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "tie_word_embeddings": True,
        "max_position_embeddings": 512,
    }


def test_torch_is_not_imported(tiny_folder: Path) -> None:
    """`loam plan` answers in under half a second; importing torch alone takes longer."""
    code = (
        "import sys; from pathlib import Path; from loam_runtime.models import loading;"
        f"loading.read_model_facts(Path({str(tiny_folder)!r}));"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x01\0\0\0", b"no such thing" * 9])
def test_a_broken_gguf_is_named(tmp_path: Path, content: bytes) -> None:
    """A download cut short is said to be one, with its path."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.gguf is not a readable \.gguf"):
        read_model_facts(path)


def test_a_gguf_cut_in_its_header_is_named(tmp_path: Path) -> None:
    """As above, where the beginning is right."""
    whole = write_tiny_gguf(tmp_path / "m.gguf").read_bytes()
    for length in (30, 200, 3000):
        (tmp_path / "m.gguf").write_bytes(whole[:length])
        with pytest.raises(InputError, match="not a readable"):
            read_model_facts(tmp_path / "m.gguf")


def test_weights_are_counted_once(tiny_folder: Path, tmp_path: Path) -> None:
    """Some folders hold the same weights a second time, in another layout: a plan that adds them
    up asks for twice the memory."""
    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "consolidated.safetensors")
    assert read_model_facts(tmp_path) == read_model_facts(tiny_folder)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"any.tensor": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_model_facts(tmp_path) == read_model_facts(tiny_folder)


def test_a_safetensors_file_cut_short_is_named(tmp_path: Path) -> None:
    """A header that promises more than the file holds ends in a message, not in a traceback."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_model_facts(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    """The message says what would be accepted."""
    with pytest.raises(InputError, match=r"neither config\.json nor a \.gguf"):
        read_model_facts(tmp_path)

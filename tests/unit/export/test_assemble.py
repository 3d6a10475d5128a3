from __future__ import annotations

import json

import pytest
from tests.unit.export.conftest import CPU, train_adapter
from transformers import AutoTokenizer

from loam_runtime.data.prompt import PromptContract
from loam_runtime.export.adapter import PICKLE_SUFFIXES, assemble_adapter, refuse_pickles
from loam_runtime.export.errors import ExportError
from loam_runtime.models.loading import load_base


@pytest.fixture
def trained_dir(base_folder, tmp_path):
    train_adapter(base_folder, tmp_path / "trained")
    return tmp_path / "trained"


def assemble(trained_dir, tokenizer, contract, base, destination):
    assemble_adapter(trained_dir, tokenizer, contract, destination, base=base, card="# card\n")


def test_adapter_folder_is_complete_and_names_its_base(
    trained_dir, tokenizer, contract, base, tmp_path
):
    """PEFT would else look for the base at a path of the machine that trained."""
    (trained_dir / "optimizer_notes.txt").write_text("not for publication")
    assemble(trained_dir, tokenizer, contract, base, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    assert config["revision"] == "v2"
    assert config["inference_mode"] is True
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert names == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
        "loam_prompt.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert (tmp_path / "adapter" / "README.md").read_text() == "# card\n"


def test_prompt_contract_and_chat_template_travel(trained_dir, tokenizer, contract, base, tmp_path):
    """An adapter served with another wording or template answers worse than measured."""
    assemble(trained_dir, tokenizer, contract, base, tmp_path / "adapter")
    text = (tmp_path / "adapter" / "loam_prompt.json").read_text()
    assert PromptContract.from_json(text) == contract
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    assert reloaded.chat_template == tokenizer.chat_template
    assert reloaded("a text").input_ids == tokenizer("a text").input_ids


def test_full_model_folder_loads(base_folder, tokenizer, contract, base, tmp_path):
    """After full fine-tuning the folder is a model of its own, without traces of local paths."""
    load_base(base_folder, **CPU).save_pretrained(tmp_path / "trained")
    assemble(tmp_path / "trained", tokenizer, contract, base, tmp_path / "adapter")
    assert load_base(tmp_path / "adapter", **CPU).config.vocab_size == 320
    assert str(tmp_path) not in (tmp_path / "adapter" / "config.json").read_text()


def test_assembling_again_leaves_nothing_of_the_first_time(
    trained_dir, tokenizer, contract, base, tmp_path
):
    """A killed export leaves files; one of them must not slip into the publication."""
    stale = tmp_path / "adapter" / "stale.safetensors"
    stale.parent.mkdir()
    stale.write_bytes(b"x")
    assemble(trained_dir, tokenizer, contract, base, tmp_path / "adapter")
    assert not stale.exists()


@pytest.mark.parametrize("suffix", sorted(PICKLE_SUFFIXES))
def test_pickles_are_refused(tmp_path, suffix):
    """A pickle runs whatever it holds on the machine of who loads the adapter."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"weights{suffix.upper()}").write_bytes(b"x")
    with pytest.raises(ExportError, match="weights"):
        refuse_pickles(tmp_path)


@pytest.mark.parametrize("missing", ["adapter_model.safetensors", "adapter_config.json"])
def test_incomplete_training_output_is_refused(
    trained_dir, tokenizer, contract, base, tmp_path, missing
):
    """A training that died before saving must not end as an empty adapter."""
    (trained_dir / missing).unlink()
    with pytest.raises(ExportError, match="has n"):
        assemble(trained_dir, tokenizer, contract, base, tmp_path / "adapter")

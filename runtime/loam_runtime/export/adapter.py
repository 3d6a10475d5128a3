"""The published folder: a PEFT-format adapter or a whole model, with all it needs to be used."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.export.errors import ExportError
from loam_runtime.export.licenses import License

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from loam_runtime.data.prompt import PromptContract

ADAPTER_CONFIG = "adapter_config.json"
PROMPT_FILE = "loam_prompt.json"
CARD_FILE = "README.md"
# Formats that can run code when they are loaded.
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
_WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model an adapter belongs on.

    Attributes:
        uri: as the manifest names it.
        revision: of an hf:// model, "" for its default.
        digest: SHA-256 over the files' names and contents.
        precision: what the base was held in while training: "bf16", "fp32" or "nf4".
        license: what its files say of its licence.
    """

    uri: str
    revision: str
    digest: str
    precision: str
    license: License

    @property
    def name(self) -> str:
        """The name that PEFT and model hubs know it by: the URI, of hf:// ones without scheme."""
        return self.uri.removeprefix("hf://")


def assemble_adapter(
    trained_dir: Path,
    tokenizer: PreTrainedTokenizerBase,
    contract: PromptContract,
    destination: Path,
    *,
    base: BaseModel,
    card: str = "",
) -> None:
    """Make the published folder at `destination`, anew.

    It holds the weights (an adapter in PEFT's format, or after full fine-tuning the whole
    model), the tokenizer with its chat template if it has one, the prompt contract and the
    model card. Nothing else of `trained_dir` is taken along.

    Args:
        card: the model card; without one none is written, for who adds it once it is measured.

    Raises:
        ExportError: `trained_dir` has no weights, or files that could run code when loaded.
    """
    refuse_pickles(trained_dir)
    if destination.exists():
        shutil.rmtree(destination)
    destination.mkdir(parents=True)
    _copy_weights(trained_dir, destination)
    if (trained_dir / ADAPTER_CONFIG).is_file():
        _write_adapter_config(trained_dir, destination, base)
    else:
        _copy_model_config(trained_dir, destination)
    write_companions(destination, tokenizer, contract, card)


def write_companions(
    destination: Path,
    tokenizer: PreTrainedTokenizerBase,
    contract: PromptContract,
    card: str = "",
) -> None:
    """Put what every published folder has beside its weights: tokenizer, prompt, model card."""
    tokenizer.save_pretrained(destination)
    (destination / PROMPT_FILE).write_text(contract.to_json(), encoding="utf-8")
    if card:
        (destination / CARD_FILE).write_text(card, encoding="utf-8")
    refuse_pickles(destination)


def refuse_pickles(folder: Path) -> None:
    """Check that nothing in `folder` is in a format that can run code when it is loaded.

    Raises:
        ExportError: names the files.
    """
    found = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix.lower() in PICKLE_SUFFIXES
    )
    if found:
        raise ExportError(
            f"{folder} holds files that can run code when they are loaded: {', '.join(found[:5])}.",
            remedy="Only safetensors are published; save the weights in that format.",
        )


def _copy_weights(trained_dir: Path, destination: Path) -> None:
    files = sorted(path for pattern in _WEIGHT_PATTERNS for path in trained_dir.glob(pattern))
    if not any(path.suffix == ".safetensors" for path in files):
        raise ExportError(
            f"{trained_dir} has no .safetensors weights.",
            remedy="Training ended without saving a model; see its log.",
        )
    for path in files:
        shutil.copy2(path, destination / path.name)


def _write_adapter_config(trained_dir: Path, destination: Path, base: BaseModel) -> None:
    config = json.loads((trained_dir / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    # What PEFT saved is the local folder of the machine that trained.
    config["base_model_name_or_path"] = base.name
    config["revision"] = base.revision or None
    config["inference_mode"] = True
    _write_json(destination / ADAPTER_CONFIG, config)


def _copy_model_config(trained_dir: Path, destination: Path) -> None:
    config_file = trained_dir / "config.json"
    if not config_file.is_file():
        raise ExportError(
            f"{trained_dir} has neither {ADAPTER_CONFIG} nor config.json.",
            remedy="Training ended without saving a model; see its log.",
        )
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    _write_json(destination / "config.json", config)
    generation = trained_dir / "generation_config.json"
    if generation.is_file():
        shutil.copy2(generation, destination / generation.name)


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

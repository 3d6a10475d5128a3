"""What the trained model says to a few rows: kept beside its weights, so that whatever is
published later can be held against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from loam_runtime.data.template import EncodedExample

NUM_REFERENCE_ROWS = 4
_FILE = Path("reference") / "logits.safetensors"  # a folder of its own: these are no weights


def select_reference_rows(rows: Sequence[EncodedExample]) -> list[EncodedExample]:
    """The first few training rows."""
    return [rows[index] for index in range(min(NUM_REFERENCE_ROWS, len(rows)))]


def write_reference(folder: Path, rows: Sequence[EncodedExample], logits: np.ndarray) -> None:
    """Keep the rows' prompts with the logits that followed them.

    Args:
        logits: float32 [num_rows, vocabulary], of the token after each row's prompt.
    """
    path = folder / _FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    prompts = {
        f"prompt_{index}": np.array(row.input_ids[: row.num_prompt_tokens], dtype=np.int64)
        for index, row in enumerate(rows)
    }
    save_file({**prompts, "logits": np.ascontiguousarray(logits)}, path)


def read_reference(folder: Path) -> tuple[list[list[int]], np.ndarray]:
    """The prompts and logits that `write_reference` kept in `folder`."""
    tensors = load_file(folder / _FILE)
    logits = tensors.pop("logits")
    return [tensors[f"prompt_{index}"].tolist() for index in range(len(tensors))], logits

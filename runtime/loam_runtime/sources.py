"""What a job reads, brought to this machine and identified by content before anything else runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.storage.cache import digest_path, fetch
from loam_runtime.synthesis.database import fetch_database

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJobSpec


@dataclass(frozen=True, slots=True)
class Sources:
    """Local copies of a job's inputs.

    Attributes:
        model: folder of safetensors, or a .gguf file.
        data: file or folder by role: "seeds", and "test" and "validation" where the job names them.
        digests: SHA-256 by role, "model" and "database" included.
        database: SQLite file that SQL answers run in, where the job names one.
    """

    model: Path
    data: dict[str, Path]
    digests: dict[str, str]
    database: Path | None = None


def fetch_sources(spec: FineTuneJobSpec, base_dir: Path) -> Sources:
    """Fetch model and data (from the content cache where they are there already).

    Raises:
        InputError: something is missing.
        CredentialsError: access refused.
    """
    model = fetch(spec.model.uri, revision=spec.model.revision, base_dir=base_dir)
    data = fetch_data(spec, base_dir)
    database = fetch_database(spec.synthesis.filters, base_dir) if spec.synthesis else None
    named = {"model": model, **data, **({"database": database} if database else {})}
    digests = {role: digest_path(path) for role, path in named.items()}
    return Sources(model, data, digests, database)


def fetch_data(spec: FineTuneJobSpec, base_dir: Path) -> dict[str, Path]:
    """Fetch the data alone: local file or folder by role.

    Raises:
        InputError: something is missing.
        CredentialsError: access refused.
    """
    uris = {
        "seeds": spec.data.seeds.uri,
        "test": spec.data.test.uri if spec.data.test else "",
        "validation": spec.data.validation.uri,
    }
    return {role: fetch(uri, base_dir=base_dir) for role, uri in uris.items() if uri}

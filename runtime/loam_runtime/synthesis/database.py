"""The SQLite file that SQL answers must run in, brought to this machine."""

from __future__ import annotations

from pathlib import Path

from loam_api.filters_block import Filters
from loam_runtime.errors import InputError
from loam_runtime.storage.cache import fetch

_BEGINNING = b"SQLite format 3\0"


def fetch_database(filters: Filters, base_dir: Path | None = None) -> Path | None:
    """The local copy; None where the settings name none.

    Raises:
        InputError: there is nothing at the address, or no SQLite file.
        CredentialsError: access refused.
    """
    if filters.structured.database is None:
        return None
    uri = filters.structured.database.uri
    path = fetch(uri, base_dir=base_dir)
    if not (path.is_file() and _begins_as_database(path)):
        raise InputError(
            f"synthesis.filters.structured.database.uri: {uri} is no SQLite file.",
            remedy="Give a database that the sqlite3 command opens, or leave the field out.",
        )
    return path


def _begins_as_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING

"""What the storage tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from loam_runtime.storage.file import FileStore


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")

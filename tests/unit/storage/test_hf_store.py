"""hf:// stores, with the real client against a local server that answers as the Hub does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.hub_server import COMMIT, Hub, run_hub_server

from loam_runtime.errors import CredentialsError, InputError, StorageError
from loam_runtime.storage import cache
from loam_runtime.storage.base import NotFoundError
from loam_runtime.storage.hf import HuggingFaceStore
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.transfer import download_folder


@pytest.fixture
def hub() -> Iterator[Hub]:
    with run_hub_server() as hub:
        hub.files = {
            "config.json": b"{}",
            "model.safetensors": b"weights",
            "pytorch_model.bin": b"pickle",
            "gguf/q4.gguf": b"quantized",
        }
        yield hub


def open_hub(hub: Hub, folder: str = "", name: str = "owner/name", **options: object):
    return HuggingFaceStore(name, folder, endpoint=hub.endpoint, max_attempts=2, **options)


def test_a_repository_reads_as_a_folder(hub: Hub, tmp_path: Path) -> None:
    """A model of the Hub is used like any other folder, at one commit."""
    store = open_hub(hub)
    assert [info.key for info in store.list()] == [
        "config.json",
        "gguf/q4.gguf",
        "model.safetensors",
    ]
    assert store.get("config.json") == b"{}"
    assert store.stat("model.safetensors").size == len(b"weights")
    assert open_hub(hub, "gguf").list()[0].key == "q4.gguf"
    download_folder(store, "", tmp_path / "model")
    assert (tmp_path / "model" / "gguf" / "q4.gguf").read_bytes() == b"quantized"
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "gguf",
        "model.safetensors",
    ]
    assert all(COMMIT in request for request in hub.requests if "resolve" in request)


def test_pickled_weights_are_not_even_downloaded(hub: Hub) -> None:
    """A pickle runs code when loaded, and doubles the download."""
    store = open_hub(hub)
    assert not store.exists("pytorch_model.bin")
    with pytest.raises(NotFoundError):
        store.get("pytorch_model.bin")


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_part_of_a_file_is_read_alone(hub: Hub, knows_ranges: bool) -> None:
    """A plan reads the head of gigabytes; a server that knows no ranges is left early."""
    content = bytes(range(256)) * 200_000
    hub.files["model.safetensors"] = content
    hub.knows_ranges = knows_ranges
    store = open_hub(hub)
    assert store.get_range("model.safetensors", 0, 8) == content[:8]
    assert store.get_range("model.safetensors", 1000, 500) == content[1000:1500]
    assert store.get_range("config.json", 1, 100) == b"}"
    assert hub.sent_bytes["model.safetensors"] < len(content) // 2
    if knows_ranges:
        assert hub.sent_bytes["model.safetensors"] == 508


def test_a_part_is_asked_for_as_the_whole_is(hub: Hub) -> None:
    """Busy servers are waited for, and what is missing or closed has its own error."""
    store = open_hub(hub)
    assert store.exists("config.json")
    hub.num_busy = 1
    assert store.get_range("config.json", 0, 1) == b"{"
    with pytest.raises(NotFoundError, match="none"):
        store.get_range("none", 0, 1)
    hub.is_gated = True
    with pytest.raises(CredentialsError, match="private or gated"):
        store.get_range("config.json", 0, 1)


def test_fetch_takes_one_file_of_a_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "open_store", lambda uri, revision: open_hub(hub, revision=revision))
    path = cache.fetch("hf://owner/name/gguf/q4.gguf", revision="v1")
    assert (path.name, path.read_bytes()) == ("q4.gguf", b"quantized")
    assert "GET /api/models/owner/name/revision/v1" in hub.requests


def test_content_that_arrives_damaged_is_refused(hub: Hub, tmp_path: Path) -> None:
    """What is trained on is what the Hub's own digest names."""
    store = open_hub(hub)
    assert store.exists("model.safetensors")
    hub.files["model.safetensors"] = b"weighty"
    with pytest.raises(StorageError):
        store.download_file("model.safetensors", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_busy_hub_is_asked_again(hub: Hub) -> None:
    hub.num_busy = 1
    assert open_hub(hub).exists("config.json")


def test_a_hub_that_stays_busy_is_given_up(hub: Hub) -> None:
    """An error that says where to look, within the bound."""
    hub.num_busy = -1
    with pytest.raises(StorageError, match="hf://owner/name") as caught:
        open_hub(hub).list()
    assert "HF_ENDPOINT" in caught.value.remedy


def test_what_is_missing_or_closed_is_told_apart(hub: Hub, tmp_path: Path) -> None:
    """Gated, private or misspelt asks for credentials; a wrong revision or path for a look."""
    with pytest.raises(CredentialsError, match="private or gated") as caught:
        open_hub(hub, name="owner/nobody").list()
    assert "HF_TOKEN" in caught.value.remedy
    with pytest.raises(NotFoundError):
        open_hub(hub, revision="no-such").list()
    with pytest.raises(NotFoundError, match=r"nothing\.json"):
        open_hub(hub).download_file("nothing.json", tmp_path / "x")
    hub.is_gated = True
    with pytest.raises(CredentialsError):
        open_hub(hub).list()


def test_the_hub_is_read_only(hub: Hub, tmp_path: Path) -> None:
    """An output that points to the Hub is refused with what would work."""
    store = open_hub(hub)
    for write in (
        lambda: store.put("k", b"1"),
        lambda: store.delete("k"),
        lambda: store.upload_file(tmp_path, "k"),
    ):
        with pytest.raises(InputError, match="read-only"):
            write()


def test_uris_name_a_repository() -> None:
    assert open_store("hf://owner/name/sub", revision="v1").uri == "hf://owner/name/sub"
    assert open_store("hf://datasets/owner/name").uri == "hf://datasets/owner/name"
    for uri in ("hf://name", "hf://owner/na me", "hf://owner/name/../x"):
        with pytest.raises(InputError):
            open_store(uri)

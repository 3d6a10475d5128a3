"""Whole folders: any tree survives the way there and back; a hostile listing does no harm."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.cases import count_cases

from loam_runtime.errors import InputError, StorageError
from loam_runtime.storage.base import NotFoundError, ObjectInfo
from loam_runtime.storage.file import FileStore
from loam_runtime.storage.local import hash_file
from loam_runtime.storage.transfer import download_folder, upload_folder

NAMES = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and not name.startswith(".loam-"))
TREES = st.recursive(
    st.binary(max_size=50), lambda tree: st.dictionaries(NAMES, tree, max_size=4), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))


def write_tree(folder: Path, tree: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        if isinstance(content, dict):
            write_tree(folder / name, content)
        else:
            (folder / name).write_bytes(content)


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@settings(max_examples=count_cases(60))
@given(TREES, st.sampled_from(["", "p", "p/q"]))
def test_any_tree_comes_back_as_it_was(tree: dict, prefix: str) -> None:
    """Names in any script, empty files, deep folders: nothing is lost, renamed or changed."""
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "source"), Path(scratch, "target")
        write_tree(source, tree)
        store = FileStore(Path(scratch, "store"))
        uploaded = upload_folder(source, store, prefix)
        expected = read_tree(source)
        if not expected:
            assert uploaded == {}
            with pytest.raises(NotFoundError):
                download_folder(store, prefix, target)
            return
        downloaded = download_folder(store, prefix, target)
        assert read_tree(target) == expected
        digests = {name: hash_file(source / name) for name in sorted(expected)}
        assert downloaded == digests
        root = f"{prefix}/" if prefix else ""
        assert uploaded == {f"{root}{name}": digest for name, digest in digests.items()}


class HostileStore(FileStore):
    """A store that lists a key of someone's choice."""

    key = ""

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return [ObjectInfo("p/good", 1, ""), ObjectInfo(self.key, 1, "")]


@given(
    st.lists(st.sampled_from(["..", "/", "x", "p", "\\", "."]), min_size=1, max_size=9).map("".join)
)
def test_a_hostile_listing_cannot_leave_the_folder(key: str) -> None:
    """Keys of a foreign bucket are not trusted: not one byte lands outside the target."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "store")
        store = HostileStore(root)
        store.put("p/good", b"1")
        store.key = key
        target = Path(scratch, "deep", "target")
        with contextlib.suppress(InputError, StorageError):
            download_folder(store, "p", target)
        outside = [
            path
            for path in Path(scratch).rglob("*")
            if path.is_file() and root not in path.parents and target not in path.parents
        ]
        assert outside == []


def test_a_bad_key_stops_the_download_before_it_begins(store: FileStore, tmp_path: Path) -> None:
    """Half a folder that looks whole is worse than none."""
    hostile = HostileStore(tmp_path / "store")
    hostile.put("p/good", b"1")
    hostile.key = "p/zzz/../../../evil"  # sorts after the good one
    with pytest.raises(InputError, match="evil"):
        download_folder(hostile, "p", tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", ["dangling", "folder", "pipe"])
def test_what_cannot_be_copied_is_an_error(store: FileStore, tmp_path: Path, kind: str) -> None:
    """A link to a folder or to nothing is not left out silently: data would be missing."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "ok").write_bytes(b"1")
    if kind == "pipe":
        os.mkfifo(folder / "bad")
    else:
        (folder / "bad").symlink_to(tmp_path if kind == "folder" else tmp_path / "nothing")
    with pytest.raises(InputError, match="bad"):
        upload_folder(folder, store, "p")
    assert store.list() == []


def test_links_to_files_are_followed(store: FileStore, tmp_path: Path) -> None:
    """Model folders in Hugging Face's cache are made of links to files."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "blob").write_bytes(b"weights")
    (folder / "model").symlink_to(tmp_path / "blob")
    upload_folder(folder, store, "p")
    assert store.get("p/model") == b"weights"


def test_a_name_no_key_can_hold_is_refused(store: FileStore, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a\\b").write_bytes(b"1")
    with pytest.raises(InputError, match="backslash"):
        upload_folder(folder, store, "p")


def test_the_first_failure_ends_the_transfer(store: FileStore, tmp_path: Path) -> None:
    """One refused object must not cost the time of the thousand after it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for index in range(50):
        (folder / f"{index:02d}").write_bytes(b"1")
    started = []

    class FailingStore(FileStore):
        def upload_file(self, path: Path, key: str) -> str:
            started.append(key)
            raise StorageError("down")

    with pytest.raises(StorageError, match="down"):
        upload_folder(folder, FailingStore(tmp_path / "s"), "p", workers=1)
    assert len(started) < 50

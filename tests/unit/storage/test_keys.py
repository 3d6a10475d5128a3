"""Keys and URIs: what names an object, and what could lead out of the store."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loam_runtime.errors import InputError
from loam_runtime.storage.base import check_key, check_prefix, join_key
from loam_runtime.storage.file import FileStore
from loam_runtime.storage.registry import open_store, resolve_uri, split_uri

PIECES = st.sampled_from(["..", ".", "/", "\\", "\0", "a", "é", "", "~", "C:", "\udc80", " "])


@pytest.mark.parametrize(
    "key",
    [
        *("", "/etc/passwd", "..", "../x", "a/../b", "a/..", "./a", "a//b", "a/", "a\\b", "a\0b"),
        *(".loam-lock", "a/.loam-tmp/b", "x" * 1025, "\udc80"),
    ],
)
def test_bad_keys_are_refused(key: str) -> None:
    """A key that could leave the store, or that two stores read differently, is never used."""
    with pytest.raises(InputError, match="object key"):
        check_key(key)


@pytest.mark.parametrize("key", ["a", "a/b.c", "..a", "a..", "...", "a b", "ü/日本語", ".hidden"])
def test_plain_keys_pass(key: str) -> None:
    """Names that only look odd are allowed: a user's file must not be refused for its dots."""
    assert check_key(key) == key


@given(st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=30))
@example("a/../../b")
def test_a_checked_key_never_leaves_its_folder(key: str) -> None:
    """Whatever passes the check stays under the root: else a hostile listing writes anywhere."""
    try:
        check_key(key)
    except InputError:
        return
    path = posixpath.normpath(posixpath.join("/root/store", key))
    assert path.startswith("/root/store/")
    assert path == f"/root/store/{key}", "two keys for one file"


def test_prefix_may_end_in_a_slash() -> None:
    """ "a/" and "a" are the same folder, "" is everything, and "/" is no way to the disk's root."""
    assert check_prefix("a/b/") == "a/b"
    assert check_prefix("") == ""
    with pytest.raises(InputError):
        check_prefix("/")


def test_join_key_skips_what_is_empty() -> None:
    assert join_key("", "a") == "a"
    assert join_key("p/q", "a") == "p/q/a"
    assert join_key("p", "") == "p"


def test_relative_uris_start_at_the_base_folder(tmp_path: Path) -> None:
    """A manifest's file:// paths mean the same wherever `loam` is started from."""
    assert resolve_uri("file://seeds.csv", tmp_path) == f"file://{tmp_path}/seeds.csv"
    assert resolve_uri("file://./a/../b", tmp_path) == f"file://{tmp_path}/b"
    assert resolve_uri("file:///data/x", tmp_path) == "file:///data/x"
    assert resolve_uri("file://~/x", tmp_path) == f"file://{os.path.expanduser('~/x')}"
    assert resolve_uri("s3://bucket/x/", tmp_path) == "s3://bucket/x"


@pytest.mark.parametrize("uri", ["seeds.csv", "ftp://x", "", "S3//x", "file://", "file://a\0b"])
def test_bad_uris_say_what_is_accepted(uri: str) -> None:
    """A misspelt URI is refused with the schemes there are, before anything is opened."""
    with pytest.raises(InputError, match="://"):
        open_store(uri)


def test_a_uri_is_split_into_its_store_and_a_path() -> None:
    assert split_uri("s3://bucket/a/b") == ("s3://bucket", "a/b")
    assert split_uri("s3://bucket/") == ("s3://bucket", "")
    assert split_uri("hf://owner/name/file.gguf") == ("hf://owner/name", "file.gguf")
    assert split_uri("hf://datasets/owner/name/a/b") == ("hf://datasets/owner/name", "a/b")
    assert split_uri("file:///a/b") == ("file:///a", "b")


def test_a_revision_is_for_repositories_only(tmp_path: Path) -> None:
    """A revision that cannot be honoured is refused: ignoring it would train another model."""
    with pytest.raises(InputError, match="revision"):
        open_store(f"file://{tmp_path}", revision="v1")


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    """A secret in a URI must reach neither the store nor the message."""
    with pytest.raises(InputError) as caught:
        open_store("s3://AKIA:s3cret@bucket/x")
    assert "s3cret" not in str(caught.value)


def test_open_store_resolves_the_folder(tmp_path: Path) -> None:
    store = open_store("file://out", base_dir=tmp_path)
    assert isinstance(store, FileStore)
    assert store.uri == f"file://{tmp_path}/out"

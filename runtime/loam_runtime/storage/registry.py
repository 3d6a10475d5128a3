"""From a URI to its store. A new scheme is one file beside this one and one line here."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loam_runtime.errors import InputError
from loam_runtime.storage.base import ObjectStore


@dataclass(frozen=True, slots=True)
class _Backend:
    """Where a scheme's class is; it is imported when first needed, for boto3 is slow to load."""

    module: str
    class_name: str
    has_revisions: bool = False

    def load(self) -> Any:
        module = importlib.import_module(f"loam_runtime.storage.{self.module}")
        return getattr(module, self.class_name)


_BACKENDS = {
    "file": _Backend("file", "FileStore"),
    "s3": _Backend("s3", "S3Store"),
    "hf": _Backend("hf", "HuggingFaceStore", has_revisions=True),
}


def open_store(uri: str, *, base_dir: Path | None = None, revision: str = "") -> ObjectStore:
    """The store rooted at `uri`; nothing is read or written yet.

    Args:
        base_dir: where a relative file:// path begins; the working directory by default.
        revision: branch, tag or commit, for hf:// only.

    Raises:
        InputError: no such scheme, a malformed URI, or a revision where there are none.
    """
    backend = _find_backend(uri)
    if not revision:
        return backend.load().from_uri(resolve_uri(uri, base_dir))
    if not backend.has_revisions:
        raise InputError(
            f"{uri} has no revisions, but revision {revision!r} is asked for.",
            remedy="Remove the revision: only hf:// has them.",
        )
    return backend.load().from_uri(uri, revision=revision)


def split_uri(uri: str) -> tuple[str, str]:
    """The URI of a store (bucket, repository, folder) and the path of one thing in it, or ""."""
    return _find_backend(uri).load().split_uri(uri)


def is_local(uri: str) -> bool:
    """Whether the URI names something on a disk of this machine."""
    return uri.startswith("file://")


def resolve_uri(uri: str, base_dir: Path | None = None) -> str:
    """The URI with a relative or "~" file:// path made absolute; any other as it is.

    The path is taken literally: no percent-decoding.
    """
    _find_backend(uri)
    if not is_local(uri):
        return uri.rstrip("/")
    path = os.path.expanduser(uri.removeprefix("file://"))
    if "\0" in path or not path:
        raise InputError(f"{uri!r} names no file.", remedy="Write file:// and a path.")
    return f"file://{os.path.abspath(os.path.join(base_dir or Path.cwd(), path))}"


def _find_backend(uri: str) -> _Backend:
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme not in _BACKENDS:
        known = ", ".join(f"{name}://" for name in _BACKENDS)
        raise InputError(f"{uri!r} is not the URI of a store.", remedy=f"Begin it with {known}.")
    return _BACKENDS[scheme]

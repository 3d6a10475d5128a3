"""The files of a model where they lie, read by range: a plan needs kilobytes of gigabytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loam_runtime.errors import InputError
from loam_runtime.storage.base import NotFoundError, ObjectStore, join_key
from loam_runtime.storage.file import FileStore
from loam_runtime.storage.registry import is_local, open_store, resolve_uri, split_uri


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A folder of a store that holds a model, or the one file of it that is the model.

    Attributes:
        store: where the files are.
        folder: their folder in it.
        location: that folder as a person knows it, a path or a URI.
        sizes: bytes by name, without what lies in folders further down.
        is_folder: whether the folder was named, not one file in it.
    """

    store: ObjectStore
    folder: str
    location: str
    sizes: dict[str, int]
    is_folder: bool

    def __str__(self) -> str:
        return self.location if self.is_folder else self.locate(next(iter(self.sizes)))

    def locate(self, name: str) -> str:
        """A file as a person knows it."""
        return f"{self.location.rstrip('/')}/{name}"

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file from `start` on, `length` of them or as many as there are."""
        rest = self.sizes[name] - start
        length = rest if length is None else min(length, rest)
        if length <= 0:
            return b""
        return self.store.get_range(join_key(self.folder, name), start, length)

    def find_gguf(self) -> str | None:
        """The name of the only .gguf; None where there is none.

        Raises:
            InputError: there are several.
        """
        found = sorted(name for name in self.sizes if name.endswith(".gguf"))
        if len(found) > 1:
            raise InputError(
                f"{self} holds {len(found)} .gguf files: {', '.join(found[:5])}.",
                remedy="Name one of them in model.uri.",
            )
        return found[0] if found else None


def open_model(uri: str, *, revision: str = "", base_dir: Path | None = None) -> ModelFiles:
    """The files of the model at `uri`, none of them read yet.

    Args:
        revision: branch, tag or commit, for hf:// only.
        base_dir: where a relative file:// path begins; the working directory by default.

    Raises:
        InputError: there is nothing at `uri`.
        CredentialsError: access is refused.
        StorageError: the store still fails after retries.
    """
    if is_local(uri):
        return open_local_model(Path(resolve_uri(uri, base_dir).removeprefix("file://")))
    root, path = split_uri(uri)
    store = open_store(root, revision=revision)
    if path and store.exists(path):
        folder, _, name = path.rpartition("/")
        sizes = {name: store.stat(path).size}
        return ModelFiles(store, folder, join_key(store.uri, folder), sizes, is_folder=False)
    listed = [(info.key.removeprefix(path).lstrip("/"), info.size) for info in store.list(path)]
    if not listed:
        raise NotFoundError(f"There is nothing at {uri}.", remedy="Check the URI.")
    sizes = {name: size for name, size in listed if "/" not in name}
    return ModelFiles(store, path, uri, sizes, is_folder=True)


def open_local_model(path: Path) -> ModelFiles:
    """The files of the model at a path of this machine's disk.

    Raises:
        NotFoundError: there is nothing.
    """
    if not path.exists():
        raise NotFoundError(f"There is no file or folder {path}.", remedy="Check the path.")
    folder = path if path.is_dir() else path.parent
    files = [file for file in folder.iterdir() if file.is_file()] if path.is_dir() else [path]
    sizes = {file.name: file.stat().st_size for file in files}
    return ModelFiles(FileStore(folder), "", str(folder), sizes, path.is_dir())

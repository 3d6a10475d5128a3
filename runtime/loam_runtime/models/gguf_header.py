"""The header of a .gguf file: its metadata and tensor shapes, read without touching a weight.

The `gguf` package's reader builds an array per vocabulary entry, which takes seconds for a
large vocabulary; a plan must be ready in half of one. Layout: the GGUF specification of ggml.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from loam_runtime.errors import InputError
from loam_runtime.models.files import ModelFiles

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_OLDEST_VERSION_WITH_64_BIT_COUNTS = 2
_READ_BYTES = 4 << 20  # at once; the vocabulary makes a header of several megabytes
_MAX_HEADER_BYTES = 256 << 20  # beyond any vocabulary: such lengths come from damage


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a .gguf file says of itself.

    Attributes:
        metadata: scalar and string entries; an array is given as its number of entries.
        tensor_shapes: by tensor name, fastest-varying dimension first, as ggml stores them.
    """

    metadata: dict[str, Any] = field(default_factory=dict)
    tensor_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def read_gguf_header(files: ModelFiles, name: str) -> GgufHeader:
    """The header of the file `name`.

    Raises:
        InputError: not a GGUF file of version 2 or later, or one cut short.
    """
    try:
        return _Cursor(files, name).read_header()
    except (ValueError, KeyError, struct.error) as exc:
        raise InputError(
            f"{files.locate(name)} is not a readable .gguf file: {exc}.",
            remedy="Download or export it again; Loam reads GGUF version 2 and later.",
        ) from exc


class _Cursor:
    """Reads little-endian values one after the other, and the file only as far as they go."""

    def __init__(self, files: ModelFiles, name: str) -> None:
        self._files = files
        self._name = name
        self._view = bytearray()
        self._position = 0

    def read_header(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise ValueError("it does not start with the GGUF mark")
        version = self._read("<I")
        if version < _OLDEST_VERSION_WITH_64_BIT_COUNTS:
            raise ValueError(f"its version is {version}")
        num_tensors, num_entries = self._read("<Q"), self._read("<Q")
        header = GgufHeader()
        for _ in range(num_entries):
            key = self._read_string()
            header.metadata[key] = self._read_value(self._read("<I"))
        for _ in range(num_tensors):
            name = self._read_string()
            num_dimensions = self._read("<I")
            header.tensor_shapes[name] = tuple(self._read("<Q") for _ in range(num_dimensions))
            self._position += 12  # type (4 bytes) and offset (8)
        return header

    def _read(self, layout: str) -> Any:
        (value,) = struct.unpack(layout, self._take(struct.calcsize(layout)))
        return value

    def _read_string(self) -> str:
        return self._take(self._read("<Q")).decode("utf-8")

    def _take(self, length: int) -> bytearray:
        start, self._position = self._position, self._position + length
        self._load(self._position)
        return self._view[start : self._position]

    def _load(self, end: int) -> None:
        """Have all bytes before `end` at hand."""
        if end > self._files.sizes[self._name]:
            raise ValueError("it ends within its header")
        if end > _MAX_HEADER_BYTES:
            raise ValueError("its header names lengths that no header has")
        while len(self._view) < end:
            piece = self._files.read(self._name, len(self._view), _READ_BYTES)
            if not piece:
                raise ValueError("it became shorter while it was read")
            self._view += piece

    def _read_value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._read_string()
        if kind == _ARRAY:
            return self._skip_array()
        return self._read(_SCALARS[kind])

    def _skip_array(self) -> int:
        kind, count = self._read("<I"), self._read("<Q")
        if kind == _STRING:
            for _ in range(count):
                if self._position + 8 > len(self._view):
                    self._load(self._position + 8)
                self._position += 8 + struct.unpack_from("<Q", self._view, self._position)[0]
        elif kind == _ARRAY:
            for _ in range(count):
                self._skip_array()
        else:
            self._position += count * struct.calcsize(_SCALARS[kind])
        return count

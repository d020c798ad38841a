"""Reads a GGUF file: metadata, and weights dequantized to float32.

The header (github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3) is walked here, because the
reader of the `gguf` package makes an object of every token of the vocabulary, which takes ten times
as long as the weights do. Its dequantization, llama.cpp's own, is used as it is.

Not thread-safe while opening; owns a memory map of the file for as long as it lives.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ALIGNMENT = 32
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {
    code: struct.Struct("<" + letter)
    for code, letter in {
        **{0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i"},
        **{6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"},
    }.items()
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies, and how."""

    shape: tuple[int, ...]
    """In numpy's order."""
    type: gguf.GGMLQuantizationType
    offset: int


class GgufFile:
    """One open GGUF file."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file that is no GGUF or ends too early."""
        self.path = path
        self._bytes = np.memmap(path, np.uint8, "r")
        try:
            self._read_header(_Cursor(memoryview(self._bytes)))
        except (struct.error, UnicodeDecodeError, KeyError) as error:
            raise ValueError(f"{path} is not a whole GGUF file: {error}") from error
        self.architecture: str = self.value("general.architecture")

    def value(self, key: str) -> Any:  # noqa: ANN401 - GGUF values are untyped
        """A metadata value; `{arch}` in the key stands for the architecture's name.

        Raises ValueError if the file has none. Arrays are not kept.
        """
        if "{arch}" in key:
            key = key.format(arch=self.architecture)
        if key not in self._values:
            raise ValueError(f"{self.path} has no metadata {key!r}")
        return self._values[key]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, in the order of the file."""
        return {name: place.shape for name, place in self._places.items()}

    def tensor(self, name: str) -> Floats:
        """A weight as float32 in numpy's order: a matrix is [outputs, inputs]."""
        if name not in self._places:
            raise ValueError(f"{self.path} has no tensor {name!r}")
        place = self._places[name]
        block, block_bytes = gguf.GGML_QUANT_SIZES[place.type]
        row_bytes = place.shape[-1] // block * block_bytes
        rows = int(np.prod(place.shape[:-1], dtype=np.int64))
        begin = self._data + place.offset
        data = self._bytes[begin : begin + rows * row_bytes]
        if data.size != rows * row_bytes:
            raise ValueError(f"{self.path} ends within tensor {name!r}")
        values = gguf.quants.dequantize(np.asarray(data).reshape(rows, row_bytes), place.type)
        return values.reshape(place.shape).astype(np.float32, copy=False)

    def _read_header(self, cursor: _Cursor) -> None:
        magic, version = cursor.take_bytes(4), cursor.take(_U32)
        if magic != b"GGUF" or version not in _VERSIONS:
            raise ValueError(f"{self.path} begins with {magic!r}, version {version}")
        tensors, values = cursor.take(_U64), cursor.take(_U64)
        self._values: dict[str, Any] = {}
        for _ in range(values):
            key = cursor.take_string()
            self._values[key] = cursor.take_value(cursor.take(_U32))
        self.metadata_bytes = cursor.at
        """What comes before the table of tensors: all metadata, and both counts."""
        self._places: dict[str, _Place] = {}
        for _ in range(tensors):
            name = cursor.take_string()
            dimensions = [cursor.take(_U64) for _ in range(cursor.take(_U32))]
            kind = gguf.GGMLQuantizationType(cursor.take(_U32))
            self._places[name] = _Place(tuple(reversed(dimensions)), kind, cursor.take(_U64))
        alignment = self._values.get("general.alignment", _ALIGNMENT)
        self._data = -(-cursor.at // alignment) * alignment


class _Cursor:
    """Reads on through the header."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0

    def take(self, kind: struct.Struct) -> Any:  # noqa: ANN401
        (value,) = kind.unpack_from(self._data, self.at)
        self.at += kind.size
        return value

    def take_bytes(self, count: int) -> bytes:
        if self.at + count > len(self._data):
            raise struct.error(f"{count} bytes at {self.at} are over {len(self._data)}")
        self.at += count
        return bytes(self._data[self.at - count : self.at])

    def take_string(self) -> str:
        return self.take_bytes(self.take(_U64)).decode()

    def take_value(self, kind: int) -> Any:  # noqa: ANN401
        """None for an array, which is skipped."""
        if kind == _STRING:
            return self.take_string()
        if kind != _ARRAY:
            return self.take(_SCALARS[kind])
        element, count = self.take(_U32), self.take(_U64)
        if element == _STRING:
            for _ in range(count):
                self.at += _U64.size + _U64.unpack_from(self._data, self.at)[0]
        else:
            self.at += count * _SCALARS[element].size
        return None

"""Reads KV dumps in the format of docs/kv-dump.md, wherever they were made.

`load` checks everything but the values: the manifest's fields and limits, and the presence and size
of every file. Whatever is wrong ends in a DumpError that names the file or field, the numbers, and
what was expected. Thread-safe; nothing is kept open.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.kv.geometry import MAX_LAYERS, Geometry, Layer, Rope
from bench.kv.rounding import DTYPES, STORED, widened

FORMAT = "reprise-kv-dump/1"
MANIFEST = "dump.json"
TOKEN_FILE = "tokens.u32"
MAX_MANIFEST_BYTES = 4 << 20
MAX_TOKENS = 1 << 20
MAX_HEADS = 1 << 12
MAX_HEAD_DIM = 1 << 14

_HEX = frozenset("0123456789abcdef")


class DumpError(ValueError):
    """A directory is not a valid dump."""


def file_name(layer: int, tensor: str, dtype: str) -> str:
    """Of one tensor ("k", "v", "q") of one layer."""
    return f"L{layer:03d}.{tensor}.{dtype}"


@dataclass(frozen=True)
class DumpText:
    """One text of a dump."""

    name: str
    sha256: str
    tokens: int
    first_position: int
    folder: Path
    geometry: Geometry

    def tensors(self, layer: int) -> tuple[str, ...]:
        """What the layer has: "k", "v" and "q", or for a latent layer "k" and perhaps "q"."""
        if self.geometry.layers[layer].kind != "latent":
            return ("k", "v", "q")
        has_q = any((self.folder / file_name(layer, "q", dtype)).exists() for dtype in DTYPES)
        return ("k", "q") if has_q else ("k",)

    def token_ids(self) -> NDArray[np.uint32]:
        """The tokens themselves; DumpError if the dump, which need not, does not have them."""
        path = self.folder / TOKEN_FILE
        ids = np.fromfile(path, "<u4") if path.is_file() else np.empty(0, np.uint32)
        if ids.size != self.tokens:
            raise DumpError(f"{path} has {ids.size} token ids, expected {self.tokens}")
        return ids

    def stored(
        self, layer: int, tensor: str, dtype: str
    ) -> NDArray[np.uint16] | NDArray[np.float16]:
        """[tokens, heads, head_dim] as the file has it: bf16 as bits in uint16, or float16."""
        shape = self.shape(tensor)
        path = self.folder / file_name(layer, tensor, dtype)
        return np.fromfile(path, STORED[dtype]).reshape(shape)

    def values(self, layer: int, tensor: str, dtype: str) -> NDArray[np.float32]:
        """The same, widened to float32, which is exact."""
        return widened(self.stored(layer, tensor, dtype))

    def shape(self, tensor: str) -> tuple[int, int, int]:
        return self.tokens, self.geometry.heads(tensor), self.geometry.head_dim


@dataclass(frozen=True)
class Dump:
    """A directory that was found to be a valid dump."""

    directory: Path
    model: str
    model_sha256: str
    geometry: Geometry
    texts: tuple[DumpText, ...]
    dtypes: tuple[str, ...]
    """Those of DTYPES in which every tensor is there; at least one."""

    def text(self, name: str) -> DumpText:
        for text in self.texts:
            if text.name == name:
                return text
        raise LookupError(f"{self.directory} has no text {name!r}")


def load(directory: Path | str) -> Dump:
    """Validates a directory; raises DumpError. Reads the manifest, and only sizes of the rest."""
    directory = Path(directory)
    manifest = _Fields(_read_manifest(directory), str(directory / MANIFEST))
    found = manifest.string("format")
    if found != FORMAT:
        raise DumpError(f"{manifest.where}: format is {found!r}, this reads {FORMAT!r}")
    geometry = _geometry(manifest)
    texts = tuple(_text(entry, directory, geometry) for entry in manifest.entries("texts"))
    if not texts:
        raise DumpError(f"{manifest.where}: there is no text")
    for what, values in (
        ("name", [text.name for text in texts]),
        ("dir", [text.folder for text in texts]),
    ):
        if len(set(values)) != len(values):
            raise DumpError(f"{manifest.where}: two texts have the same {what}")
    return Dump(
        directory,
        manifest.string("model"),
        manifest.sha256("model_sha256"),
        geometry,
        texts,
        _complete_dtypes(texts),
    )


class _Fields:
    """One JSON object, whose fields are read with their type and limits checked."""

    def __init__(self, fields: Any, where: str) -> None:  # noqa: ANN401 - from a file
        if not isinstance(fields, dict):
            raise DumpError(f"{where}: expected an object, got {_shown(fields)}")
        self._fields = fields
        self.where = where

    def _typed(self, name: str, kinds: tuple[type, ...], expected: str) -> Any:  # noqa: ANN401
        if name not in self._fields:
            raise DumpError(f"{self.where}: {name} is missing")
        value = self._fields[name]
        # JSON's true is an int to Python.
        if not isinstance(value, kinds) or (isinstance(value, bool)):
            raise DumpError(f"{self.where}: {name} is {_shown(value)}, expected {expected}")
        return value

    def string(self, name: str) -> str:
        value = self._typed(name, (str,), "a string")
        if not value:
            raise DumpError(f"{self.where}: {name} is empty")
        return value

    def sha256(self, name: str) -> str:
        value = self.string(name)
        if len(value) != 64 or not _HEX.issuperset(value):
            raise DumpError(f"{self.where}: {name} is {_shown(value)}, expected 64 hex digits")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        value = self._typed(name, (int,), "an integer")
        if not low <= value <= high:
            raise DumpError(f"{self.where}: {name} is {_shown(value)}, expected {low} to {high}")
        return value

    def optional_integer(self, name: str, low: int, high: int) -> int | None:
        return None if self._fields.get(name) is None else self.integer(name, low, high)

    def number(self, name: str) -> float:
        value = self._typed(name, (int, float), "a number")
        try:
            return float(value)
        except OverflowError:
            raise DumpError(f"{self.where}: {name} is over what a double holds") from None

    def object(self, name: str) -> _Fields:
        return _Fields(self._typed(name, (dict,), "an object"), f"{self.where}: {name}")

    def entries(self, name: str) -> Sequence[_Fields]:
        values = self._typed(name, (list,), "a list")
        return [
            _Fields(value, f"{self.where}: {name}[{index}]") for index, value in enumerate(values)
        ]


def _shown(value: Any) -> str:  # noqa: ANN401
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _read_manifest(directory: Path) -> Any:  # noqa: ANN401
    path = directory / MANIFEST
    try:
        size = path.stat().st_size
        if size > MAX_MANIFEST_BYTES:
            raise DumpError(f"{path} has {size} bytes, at most {MAX_MANIFEST_BYTES} are read")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DumpError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, DumpError):
            raise
        raise DumpError(f"{path} is not JSON: {error}") from None


def _geometry(manifest: _Fields) -> Geometry:
    layers = manifest.integer("layers", 1, MAX_LAYERS)
    per_layer = manifest.entries("per_layer")
    if len(per_layer) != layers:
        raise DumpError(f"{manifest.where}: layers is {layers}, per_layer has {len(per_layer)}")
    q_heads = manifest.integer("q_heads", 1, MAX_HEADS)
    kv_heads = manifest.integer("kv_heads", 1, MAX_HEADS)
    head_dim = manifest.integer("head_dim", 1, MAX_HEAD_DIM)
    try:
        return Geometry(q_heads, kv_heads, head_dim, tuple(_layer(entry) for entry in per_layer))
    except DumpError:
        raise
    except ValueError as error:
        raise DumpError(f"{manifest.where}: {error}") from None


def _layer(entry: _Fields) -> Layer:
    rope = entry.object("rope")
    theta, scale = rope.number("theta"), rope.number("scale")
    dims, pairing = rope.integer("dims", 0, MAX_HEAD_DIM), rope.string("pairing")
    kind, window = entry.string("kind"), entry.optional_integer("window", 1, MAX_TOKENS)
    try:
        return Layer(kind, window, Rope(theta, dims, pairing, scale))
    except ValueError as error:
        raise DumpError(f"{entry.where}: {error}") from None


def _text(entry: _Fields, directory: Path, geometry: Geometry) -> DumpText:
    name = Path(entry.string("dir"))
    if name.is_absolute() or ".." in name.parts:
        raise DumpError(f"{entry.where}: dir {str(name)!r} leaves {directory}")
    folder = directory / name
    if not folder.is_dir():
        raise DumpError(f"{entry.where}: there is no directory {folder}")
    return DumpText(
        name=entry.string("name"),
        sha256=entry.sha256("sha256"),
        tokens=entry.integer("tokens", 1, MAX_TOKENS),
        first_position=entry.integer("first_position", 0, MAX_TOKENS),
        folder=folder,
        geometry=geometry,
    )


def _complete_dtypes(texts: Sequence[DumpText]) -> tuple[str, ...]:
    """A dtype is there if any file of it is; then all must be, at their size."""
    dtypes = tuple(
        dtype
        for dtype in DTYPES
        if any(next(text.folder.glob(f"L*.{dtype}"), None) is not None for text in texts)
    )
    if not dtypes:
        raise DumpError(f"{texts[0].folder.parent}: no text has files of {' or '.join(DTYPES)}")
    for text in texts:
        for layer in range(len(text.geometry.layers)):
            for tensor in text.tensors(layer):
                for dtype in dtypes:
                    _check_size(text, layer, tensor, dtype)
    return dtypes


def _check_size(text: DumpText, layer: int, tensor: str, dtype: str) -> None:
    path = text.folder / file_name(layer, tensor, dtype)
    tokens, heads, head_dim = shape = text.shape(tensor)
    expected = tokens * heads * head_dim * STORED[dtype].itemsize
    if not path.is_file():
        raise DumpError(f"{path} is missing; other files of {dtype} are there")
    found = path.stat().st_size
    if found != expected:
        raise DumpError(f"{path} has {found} bytes, expected {expected} for {list(shape)}")

"""The per-sequence state blob of llama.cpp, as K and V arrays that share its memory.

llama.cpp hands the KV of one sequence out, and takes it back, as one byte blob. This module lays
arrays over such a blob without copying: `SequenceState.parse` over one that llama.cpp wrote, and
`SequenceState.blank` over a new one whose K and V are filled in place (by a fetch, for example)
before llama.cpp reads it.

Layout, little-endian, found by inspection of build 11549 (n tokens, rows of kv_heads * head_dim
values):

    u32 magic, i32 sequence, u32 streams (1), u32 cells (n)
    n times: i32 position, u32 sequences holding the cell (1), i32 sequence
    u32 V transposed, u32 layers, u32 K rotation, u32 V rotation
    per layer: i32 ggml type, u64 row bytes, n K rows
    per layer: i32 ggml type, u64 row bytes, n V rows

K rows are post-RoPE. V is transposed only without flash attention, and the rotations (a Hadamard
transform's size) are non-zero only for quantized KV; both are refused, as is everything that is not
one sequence of f16 at positions 0 to n - 1. A blob is treated as hostile: no length in it is
believed before the total agrees.

Thread-safety: none of its own; the arrays are plain views. Ownership: the arrays keep the blob
alive.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .abi import GGML_TYPE_F16

MAGIC = 0xAF143CD8

_HEADER = struct.Struct("<IiII")
_SECTION = struct.Struct("<IIII")
_CELL = np.dtype([("position", "<i4"), ("sequences", "<u4"), ("sequence", "<i4")])
_LAYER_HEAD = np.dtype([("type", "<i4"), ("row_bytes", "<u8")])
_VALUE = np.dtype("<f2")

Halves = NDArray[np.float16]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class KvShape:
    """What one token's KV looks like. All counts are positive."""

    layers: int
    kv_heads: int
    head_dim: int

    def __post_init__(self) -> None:
        if min(self.layers, self.kv_heads, self.head_dim) < 1:
            raise ValueError(f"every count of a KV shape is positive, got {self}")

    @property
    def row_bytes(self) -> int:
        """Bytes of one token's K (or V) in one layer."""
        return self.kv_heads * self.head_dim * _VALUE.itemsize

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's K and V in all layers."""
        return 2 * self.layers * self.row_bytes


@dataclass(frozen=True)
class _Layout:
    """Offsets of a blob that holds `token_count` tokens."""

    shape: KvShape
    token_count: int

    @property
    def section(self) -> int:
        return _HEADER.size + self.token_count * _CELL.itemsize

    @property
    def layer_stride(self) -> int:
        return _LAYER_HEAD.itemsize + self.token_count * self.shape.row_bytes

    @property
    def keys(self) -> int:
        return self.section + _SECTION.size

    @property
    def values(self) -> int:
        return self.keys + self.shape.layers * self.layer_stride

    @property
    def size(self) -> int:
        return self.values + self.shape.layers * self.layer_stride

    def cells_in(self, blob: Bytes) -> NDArray[np.void]:
        return np.ndarray((self.token_count,), _CELL, blob, _HEADER.size)

    def layer_heads_in(self, blob: Bytes, start: int) -> NDArray[np.void]:
        return np.ndarray((self.shape.layers,), _LAYER_HEAD, blob, start, (self.layer_stride,))

    def rows_in(self, blob: Bytes, start: int) -> Halves:
        shape = self.shape
        dimensions = (shape.layers, self.token_count, shape.kv_heads, shape.head_dim)
        head_bytes = shape.head_dim * _VALUE.itemsize
        strides = (self.layer_stride, shape.row_bytes, head_bytes, _VALUE.itemsize)
        return np.ndarray(dimensions, _VALUE, blob, start + _LAYER_HEAD.itemsize, strides)


@dataclass(frozen=True, eq=False)
class SequenceState:
    """A blob and the arrays inside it: K and V, [layers, tokens, kv_heads, head_dim] of float16.

    In one layer the rows of a token range are contiguous; from layer to layer they are strided. The
    arrays are writable if the blob is.
    """

    blob: Bytes
    shape: KvShape
    keys: Halves
    values: Halves

    @property
    def token_count(self) -> int:
        return self.keys.shape[1]

    @classmethod
    def parse(cls, blob: Bytes, shape: KvShape) -> SequenceState:
        """Lays arrays over a blob that llama.cpp wrote; nothing is copied.

        Raises ValueError, naming what was found, if the blob is not one non-empty sequence of f16
        rows of this shape, untransposed and unrotated, at positions 0 to n - 1.
        """
        if blob.dtype != np.uint8 or blob.ndim != 1 or not blob.flags.c_contiguous:
            raise ValueError(
                f"a blob is one contiguous run of bytes, got {blob.dtype} {blob.shape}"
            )
        layout = _read_header(blob, shape)
        _check_cells(layout.cells_in(blob), _HEADER.unpack_from(blob)[1])
        for name, start in (("K", layout.keys), ("V", layout.values)):
            _check_layer_heads(name, layout.layer_heads_in(blob, start), shape)
        return cls(
            blob, shape, layout.rows_in(blob, layout.keys), layout.rows_in(blob, layout.values)
        )

    @classmethod
    def blank(cls, shape: KvShape, token_count: int) -> SequenceState:
        """A new blob for `token_count` tokens whose K and V are zero, to be filled in place.

        Zero matters: rows that are never filled may be dropped after loading, but attention still
        multiplies what lies in their cells by a zero weight, which only finite values survive.
        Raises ValueError if `token_count` is not positive.
        """
        if token_count < 1:
            raise ValueError(f"a state holds at least one token, got {token_count}")
        layout = _Layout(shape, token_count)
        blob = np.zeros(layout.size, np.uint8)
        _HEADER.pack_into(blob, 0, MAGIC, 0, 1, token_count)
        cells = layout.cells_in(blob)
        cells["position"] = np.arange(token_count)
        cells["sequences"] = 1
        _SECTION.pack_into(blob, layout.section, 0, shape.layers, 0, 0)
        for start in (layout.keys, layout.values):
            heads = layout.layer_heads_in(blob, start)
            heads["type"] = GGML_TYPE_F16
            heads["row_bytes"] = shape.row_bytes
        return cls(
            blob, shape, layout.rows_in(blob, layout.keys), layout.rows_in(blob, layout.values)
        )

    def tokens(self, begin: int, end: int) -> tuple[Halves, Halves]:
        """Views of K and V of tokens [begin, end); ValueError if empty or out of bounds."""
        if not 0 <= begin < end <= self.token_count:
            raise ValueError(
                f"tokens [{begin}, {end}) are not a range of {self.token_count} tokens"
            )
        return self.keys[:, begin:end], self.values[:, begin:end]


def _read_header(blob: Bytes, shape: KvShape) -> _Layout:
    if blob.size < _HEADER.size:
        raise ValueError(
            f"a blob of {blob.size} bytes is shorter than its {_HEADER.size}-byte header"
        )
    magic, _, streams, token_count = _HEADER.unpack_from(blob)
    if magic != MAGIC:
        raise ValueError(
            f"a sequence state starts with {MAGIC:#010x}, this blob with {magic:#010x}"
        )
    if streams != 1:
        raise ValueError(f"a sequence state holds one stream, this blob {streams}")
    if token_count == 0:
        raise ValueError("the blob holds no tokens: its sequence is empty")
    layout = _Layout(shape, token_count)
    if blob.size >= layout.keys:
        _check_section(_SECTION.unpack_from(blob, layout.section), shape)
    if blob.size != layout.size:
        raise ValueError(
            f"{token_count} tokens of {shape} take {layout.size} bytes, the blob has {blob.size}"
        )
    return layout


def _check_section(section: tuple[int, ...], shape: KvShape) -> None:
    transposed, layers, key_rotation, value_rotation = section
    if transposed:
        raise ValueError(f"V is stored transposed ({transposed}): turn flash attention on")
    if layers != shape.layers:
        raise ValueError(f"the blob has {layers} layers, the model {shape.layers}")
    if key_rotation or value_rotation:
        raise ValueError(
            f"K and V are rotated ({key_rotation}, {value_rotation}): quantized KV is not carried, "
            "use f16"
        )


def _check_cells(cells: NDArray[np.void], sequence: int) -> None:
    wrong = np.flatnonzero(
        (cells["position"] != np.arange(cells.size))
        | (cells["sequences"] != 1)
        | (cells["sequence"] != sequence)
    )
    if wrong.size:
        first = int(wrong[0])
        position, sequences, owner = cells[first].item()
        raise ValueError(
            f"cell {first} holds position {position} of sequence {owner}, shared by {sequences}; "
            f"expected position {first} of sequence {sequence} alone"
        )


def _check_layer_heads(name: str, heads: NDArray[np.void], shape: KvShape) -> None:
    wrong = np.flatnonzero(
        (heads["type"] != GGML_TYPE_F16) | (heads["row_bytes"] != shape.row_bytes)
    )
    if wrong.size:
        layer = int(wrong[0])
        kind, row_bytes = heads[layer].item()
        raise ValueError(
            f"{name} of layer {layer} has rows of {row_bytes} bytes of ggml type {kind}, not of "
            f"{shape.row_bytes} bytes of type {GGML_TYPE_F16} (f16)"
        )

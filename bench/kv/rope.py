"""Rotary position embedding (Su et al., 2021, arXiv:2104.09864), in both pairings in use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.kv.geometry import Rope

Floats = NDArray[np.float32]


def angles(rope: Rope, first_position: int, count: int) -> NDArray[np.float64]:
    """[count, dims / 2] radians."""
    pair = np.arange(rope.dims // 2)
    # In double: at position 8,191 a float32 angle is already off by 5e-4.
    frequency = rope.scale * rope.theta ** (-2.0 * pair / rope.dims)
    positions = np.arange(first_position, first_position + count, dtype=np.float64)
    return positions[:, None] * frequency


def rotate(rows: Floats, rope: Rope, first_position: int, *, inverse: bool = False) -> Floats:
    """Rotates the first `rope.dims` channels of [tokens, heads, head_dim]; returns a new array."""
    turned = rows.copy()
    if rope.dims == 0:
        return turned
    angle = angles(rope, first_position, len(rows))[:, None, :]
    cosine = np.cos(angle).astype(np.float32)
    sine = np.sin(angle).astype(np.float32)
    if inverse:
        sine = -sine
    one, two = _pair_slices(rope)
    a, b = rows[..., one], rows[..., two]
    turned[..., one] = a * cosine - b * sine
    turned[..., two] = a * sine + b * cosine
    return turned


def _pair_slices(rope: Rope) -> tuple[slice, slice]:
    if rope.pairing == "interleaved":
        return slice(0, rope.dims, 2), slice(1, rope.dims, 2)
    half = rope.dims // 2
    return slice(0, half), slice(half, rope.dims)

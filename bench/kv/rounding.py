"""float32 to bf16 and fp16, round to nearest, ties to even, as engines do; and back.

bf16 is held as its 16 bits in uint16, because numpy has no such type. Pure functions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

DTYPES = ("bf16", "fp16")
STORED = {"bf16": np.dtype("<u2"), "fp16": np.dtype("<f2")}
"""What numpy reads the files as."""


def to_bf16(values: ArrayLike) -> NDArray[np.uint16]:
    """The bits of the nearest bf16. A NaN stays a NaN, quiet; what is too large becomes inf."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    tie_to_even = (bits >> 16) & 1
    # Wraps only for NaNs with a full payload, which are replaced below.
    rounded = ((bits + np.uint32(0x7FFF) + tie_to_even) >> 16).astype(np.uint16)
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def from_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_fp16(values: ArrayLike) -> NDArray[np.float16]:
    """The nearest fp16; what is too large becomes inf."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(np.float16)


def rounded(values: ArrayLike, dtype: str) -> NDArray[np.uint16] | NDArray[np.float16]:
    """In the form that files hold: bits of bf16, or fp16."""
    return to_bf16(values) if dtype == "bf16" else to_fp16(values)


def widened(stored: NDArray[np.uint16] | NDArray[np.float16]) -> NDArray[np.float32]:
    """Back to float32, exactly; uint16 is taken for bits of bf16."""
    if stored.dtype == np.uint16:
        return from_bf16(stored)
    return stored.astype(np.float32)

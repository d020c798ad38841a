"""The relative L2 error of a layer's attention output when it reads reconstructed K and V.

Real queries, real causal mask, and the window where the layer has one. Of all queries every
STRIDE-th is taken, the last one included, with all its heads: 256 of 4,096 positions, the same ones
for every scheme. Softmax is over whole rows, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

STRIDE = 16
BLOCK_QUERIES = 32
"""Sampled queries whose scores are held at once: times heads of a group times keys."""


@dataclass(frozen=True, eq=False)
class Probe:
    """One layer's sampled queries, and what they read from the exact K and V."""

    q: Floats
    """[sampled, q_heads, head_dim], already scaled."""
    positions: NDArray[np.int64]
    window: int | None
    exact: Floats
    """[sampled, q_heads, head_dim of V]"""

    def relative_error(self, k: Floats, v: Floats) -> float:
        """||output(k, v) - exact|| / ||exact||, over all sampled queries and heads together."""
        difference = _outputs(self.q, self.positions, k, v, self.window) - self.exact
        return float(_norm(difference) / _norm(self.exact))


def probe(
    q: Floats, k: Floats, v: Floats, *, window: int | None, scale: float, stride: int = STRIDE
) -> Probe:
    """`q` is [tokens, q_heads, head_dim], `k` and `v` are [tokens, kv_heads, head_dim], exact."""
    positions = np.arange(len(q) - 1, -1, -stride)[::-1].copy()
    sampled = q[positions] * np.float32(scale)
    return Probe(sampled, positions, window, _outputs(sampled, positions, k, v, window))


def _norm(x: Floats) -> float:
    return float(np.sqrt(np.sum(np.square(x, dtype=np.float64))))


def _outputs(
    q: Floats, positions: NDArray[np.int64], k: Floats, v: Floats, window: int | None
) -> Floats:
    q_heads, kv_heads = q.shape[1], k.shape[1]
    group = q_heads // kv_heads
    out = np.empty((len(q), q_heads, v.shape[2]), np.float32)
    for head in range(kv_heads):
        own = slice(head * group, (head + 1) * group)
        head_k, head_v = np.ascontiguousarray(k[:, head].T), np.ascontiguousarray(v[:, head])
        for begin in range(0, len(q), BLOCK_QUERIES):
            at = positions[begin : begin + BLOCK_QUERIES]
            low = 0 if window is None else max(0, int(at[0]) - window + 1)
            high = int(at[-1]) + 1
            block = q[begin : begin + BLOCK_QUERIES, own]
            scores = block.reshape(-1, block.shape[-1]) @ head_k[:, low:high]
            scores = scores.reshape(len(at), group, high - low)
            _hide(scores, at, low, high, window)
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            total = scores.sum(axis=-1, keepdims=True)
            read = scores.reshape(-1, high - low) @ head_v[low:high]
            out[begin : begin + BLOCK_QUERIES, own] = read.reshape(len(at), group, -1) / total
    return out


def _hide(
    scores: Floats, positions: NDArray[np.int64], low: int, high: int, window: int | None
) -> None:
    """Sets the scores of keys that a query does not see to -inf, in place."""
    # Keys up to the block's first query are seen by all of it, unless a window ends among them.
    start = low if window is not None else int(positions[0]) + 1
    keys = np.arange(start, high)
    hidden = keys > positions[:, None]
    if window is not None:
        hidden |= keys <= positions[:, None] - window
    tail = scores[:, :, start - low :]
    np.copyto(tail, -np.inf, where=hidden[:, None, :])

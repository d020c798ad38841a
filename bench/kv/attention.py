"""Causal grouped-query attention in float32, in blocks, so that memory does not grow with tokens^2.

Softmax is taken over whole rows of one block of queries at a time: exact, with no approximation
that a scorer would have to explain. Pure functions; thread-safe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCK_BYTES = 2 << 20
"""Scores held at once: about a core's second-level cache, through which softmax makes four passes.
"""
MAX_BLOCK_QUERIES = 128


def attend(
    q: Floats, k: Floats, v: Floats, *, first_position: int, window: int | None, scale: float
) -> Floats:
    """The attention output [queries, q_heads, head_dim].

    `q` is [queries, q_heads, head_dim] at positions from `first_position` on; `k` and `v` are
    [first_position + queries, kv_heads, head_dim] from position 0 on. A query at position p sees
    the keys at max(0, p - window + 1) to p. `scale` multiplies the scores.
    """
    queries, q_heads, _ = q.shape
    keys, kv_heads, _ = k.shape
    if keys != first_position + queries or v.shape[:2] != (keys, kv_heads):
        raise ValueError(
            f"{queries} queries from position {first_position} on need K and V of as many "
            f"positions, got K {k.shape} and V {v.shape}"
        )
    group = q_heads // kv_heads
    out = np.empty((queries, q_heads, v.shape[2]), np.float32)
    for head in range(kv_heads):
        own = slice(head * group, (head + 1) * group)
        _attend_group(
            q[:, own] * np.float32(scale),
            np.ascontiguousarray(k[:, head].T),
            np.ascontiguousarray(v[:, head]),
            first_position,
            window,
            out[:, own],
        )
    return out


def _attend_group(
    q: Floats, k: Floats, v: Floats, first_position: int, window: int | None, out: Floats
) -> None:
    """All query heads of one KV head: q [queries, group, dim], k [dim, keys], v [keys, dim]."""
    queries, group, head_dim = q.shape
    reach = k.shape[1] if window is None else min(k.shape[1], window + MAX_BLOCK_QUERIES)
    rows = max(1, min(MAX_BLOCK_QUERIES, queries, BLOCK_BYTES // (4 * group * reach)))
    space = np.empty(rows * group * reach, np.float32)
    for begin in range(0, queries, rows):
        end = min(begin + rows, queries)
        first, high = first_position + begin, first_position + end
        low = 0 if window is None else max(0, first - window + 1)
        scores = space[: (end - begin) * group * (high - low)].reshape(-1, high - low)
        np.matmul(q[begin:end].reshape(-1, head_dim), k[:, low:high], out=scores)
        _hide(scores.reshape(end - begin, group, high - low), first, low, window)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        read = (scores @ v[low:high]) / scores.sum(axis=1, keepdims=True)
        out[begin:end] = read.reshape(end - begin, group, -1)


def _hide(scores: Floats, first: int, low: int, window: int | None) -> None:
    """Sets to -inf, in place, what the queries from `first` on do not see of the keys from `low`.

    `scores` is [queries, group, keys], and its last key is its last query's own.
    """
    query = np.arange(first, first + len(scores))[:, None]
    # All keys up to the first query are seen by every query, unless a window ends among them.
    start = first + 1 if window is None else low
    key = np.arange(start, first + len(scores))
    hidden = key > query
    if window is not None:
        hidden |= key <= query - window
    np.copyto(scores[:, :, start - low :], -np.inf, where=hidden[:, None, :])

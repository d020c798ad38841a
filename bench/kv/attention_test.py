from __future__ import annotations

import numpy as np
import pytest

from bench.kv import attention
from bench.kv.attention import attend


def plain(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, first: int, window: int | None, scale: float
) -> np.ndarray:
    """The textbook formula, in double, with the whole matrix of scores."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, axis=1).astype(np.float64) for x in (k, v))
    scores = np.einsum("qhd,khd->hqk", q.astype(np.float64), k) * scale
    query, key = np.arange(first, first + len(q))[:, None], np.arange(len(k))[None, :]
    hidden = key > query
    if window is not None:
        hidden |= query - key >= window
    scores[:, hidden] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("hqk,khd->qhd", weights / weights.sum(axis=-1, keepdims=True), v)


def tensors(queries: int, keys: int, q_heads: int, kv_heads: int) -> list[np.ndarray]:
    random = np.random.default_rng(queries + keys)
    shapes = [(queries, q_heads, 16), (keys, kv_heads, 16), (keys, kv_heads, 24)]
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("window", [None, 1, 50, 128, 1000])
@pytest.mark.parametrize("first", [0, 1, 77, 300])
@pytest.mark.parametrize(("q_heads", "kv_heads"), [(1, 1), (6, 2), (4, 4)])
def test_equals_the_formula(
    first: int, window: int | None, q_heads: int, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = tensors(270, 270 + first, q_heads, kv_heads)
    expected = plain(q, k, v, first, window, 0.3)
    for block_bytes in (attention.BLOCK_BYTES, 1 << 15, 1):
        monkeypatch.setattr(attention, "BLOCK_BYTES", block_bytes)
        found = attend(q, k, v, first_position=first, window=window, scale=0.3)
        np.testing.assert_allclose(found, expected, atol=5e-6)


def test_one_query_on_an_empty_past() -> None:
    q, k, v = tensors(1, 1, 2, 1)
    found = attend(q, k, v, first_position=0, window=None, scale=1.0)
    np.testing.assert_allclose(found, np.broadcast_to(v, found.shape))


def test_scores_beyond_the_range_of_exp_do_not_overflow() -> None:
    q, k, v = tensors(40, 40, 2, 1)
    found = attend(100 * q, 100 * k, v, first_position=0, window=None, scale=1.0)
    assert np.isfinite(found).all()


def test_kv_of_another_length_is_refused() -> None:
    q, k, v = tensors(10, 15, 2, 1)
    with pytest.raises(ValueError, match="K \\(15, 1, 16\\)"):
        attend(q, k, v, first_position=4, window=None, scale=1.0)

"""Attention-output error against a direct computation."""

from __future__ import annotations

import numpy as np
import pytest

from bench.fidelity.attention import probe
from bench.kv.attention import attend

TOKENS, Q_HEADS, KV_HEADS, DIM = 300, 6, 2, 16


def tensors(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    heads = (Q_HEADS, KV_HEADS, KV_HEADS)
    q, k, v = (random.standard_normal((TOKENS, h, DIM)).astype(np.float32) for h in heads)
    return 2 * q, k, v


@pytest.mark.parametrize("window", [None, 1, 40, 1000])
@pytest.mark.parametrize("stride", [1, 8, 299])
def test_sampled_queries_read_what_full_attention_reads(window: int | None, stride: int) -> None:
    q, k, v = tensors(1)
    found = probe(q, k, v, window=window, scale=DIM**-0.5, stride=stride)
    full = attend(q, k, v, first_position=0, window=window, scale=DIM**-0.5)
    np.testing.assert_allclose(found.exact, full[found.positions], atol=2e-5)
    assert found.positions[-1] == TOKENS - 1


@pytest.mark.parametrize("window", [None, 40])
def test_error_is_the_relative_norm_over_all_heads_and_queries(window: int | None) -> None:
    q, k, v = tensors(2)
    noise = np.random.default_rng(3).standard_normal(k.shape).astype(np.float32)
    scale = DIM**-0.5
    found = probe(q, k, v, window=window, scale=scale, stride=1)
    exact, noisy = (
        attend(q, keys, v, first_position=0, window=window, scale=scale)
        for keys in (k, k + 0.1 * noise)
    )
    expected = np.linalg.norm(noisy - exact) / np.linalg.norm(exact)
    assert found.relative_error(k + 0.1 * noise, v) == pytest.approx(expected, rel=1e-4)
    assert found.relative_error(k, v) == 0


def test_scaling_v_shows_as_it_is() -> None:
    q, k, v = tensors(4)
    assert probe(q, k, v, window=None, scale=0.25).relative_error(k, 1.25 * v) == pytest.approx(
        0.25
    )


def test_keys_that_no_query_sees_do_not_matter() -> None:
    q, k, v = tensors(5)
    found = probe(q, k, v, window=10, scale=0.25, stride=1000)
    changed = k.copy()
    changed[: TOKENS - 10] += 100
    assert found.relative_error(changed, v) == 0
    changed[TOKENS - 10] += 100
    assert found.relative_error(changed, v) > 0

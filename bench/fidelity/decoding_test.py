"""KL, top-1 agreement and lookup on a stub model that is small enough to know the answers."""

from __future__ import annotations

import numpy as np
import pytest

from bench.fidelity.decoding import agreements, kl_divergence, softmax


def kl(exact: np.ndarray, other: np.ndarray) -> np.ndarray:
    return kl_divergence(softmax(exact), exact, other)


@pytest.mark.parametrize("noise", [1.0, 1e-1, 1e-2, 1e-3])
def test_kl_is_the_sum_over_the_vocabulary_however_small(noise: float) -> None:
    random = np.random.default_rng(1)
    exact = 5 * random.standard_normal((16, 5000))
    other = exact + noise * random.standard_normal(exact.shape)
    p, q = softmax(exact), softmax(other)
    expected = (p * np.log(p / q)).sum(axis=1)
    found = kl(exact.astype(np.float32), other.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-7)


def test_kl_ignores_a_shift_of_all_logits() -> None:
    logits = np.random.default_rng(2).standard_normal((4, 100)).astype(np.float32)
    np.testing.assert_allclose(kl(logits, logits + 3), 0, atol=1e-6)


class Mirror:
    """A model whose logits are its hidden state."""

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        return hidden


@pytest.mark.parametrize("tokens", [1, 64, 200])
def test_agreement_counts_all_tokens_of_each(tokens: int) -> None:
    random = np.random.default_rng(3)
    exact = random.standard_normal((tokens, 50)).astype(np.float32)
    swapped = exact.copy()
    best = exact.argmax(axis=1)
    odd = np.arange(tokens) % 2 == 1
    swapped[odd, best[odd]] -= 10
    same, half = agreements(Mirror(), exact, [exact, swapped])
    assert (same.kl, same.top1, same.tokens) == (0.0, 1.0, tokens)
    assert half.top1 == 1 - odd.mean()
    assert half.kl == pytest.approx(kl(exact, swapped).sum() / tokens, rel=1e-5)

"""CacheGen, as published and as shipped, against entropies that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.kv.baselines.cachegen import BINS, GROUP, CacheGen
from bench.kv.baselines.cachegen_shipped import CacheGenShipped
from bench.kv.baselines.scheme import Result, Scheme, Site


def walk(seed: int, tokens: int = 2560, keep: float = 0.9) -> np.ndarray:
    """Tokens that resemble their neighbours: a Gaussian AR(1) of unit variance per channel."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((tokens, 2, 32)).astype(np.float32)
    x = noise.copy()
    for token in range(1, tokens):
        x[token] = keep * x[token - 1] + np.sqrt(1 - keep * keep) * noise[token]
    return x


def at(layer: int) -> Site:
    return Site("v", layer, 3, "bf16")


def coded(scheme: Scheme, x: np.ndarray, where: Site) -> Result:
    (result,) = scheme.encode_decode(x, where)
    assert result.reconstruction.shape == x.shape
    return result


def fitted(scale: float, layer: int = 0, keep: float = 0.9) -> CacheGen:
    scheme = CacheGen(scale)
    scheme.fit([(at(layer), walk(1, keep=keep))])
    return scheme


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_error_is_that_of_the_layer_groups_bin(layer: int) -> None:
    x = walk(2, keep=0.0)
    result = coded(fitted(0.25, layer, keep=0.0), x, at(layer))
    followers = np.arange(len(x)) % 256 % GROUP != 0
    error = (result.reconstruction - x)[followers].std()
    # Deltas of independent tokens have a standard deviation of sqrt(2).
    assert error == pytest.approx(0.25 * BINS[layer] * np.sqrt(2) / np.sqrt(12), rel=0.05)


def test_rate_is_the_entropy_of_gaussian_deltas() -> None:
    x = walk(3, keep=0.0)
    scheme = fitted(1.0, layer=1, keep=0.0)
    delta_bits = 0.5 * np.log2(2 * np.pi * np.e)  # bins of one standard deviation
    anchor_step = np.abs(x).max(axis=(1, 2)).mean() / 127
    anchor_bits = delta_bits - np.log2(anchor_step)
    groups = 26 / 256
    expected = (1 - groups) * delta_bits + groups * (anchor_bits + 16 / 64)
    # Learnt tables cost a little, and Gaussian cells of one sigma are not quite uniform.
    assert coded(scheme, x, at(1)).bits / x.size == pytest.approx(expected, rel=0.03)


def test_absolute_bins_are_those_numbers() -> None:
    x = 10 * walk(8, keep=0.0)
    scheme = CacheGen(0.5, "absolute")
    scheme.fit([(at(2), 10 * walk(1, keep=0.0))])
    error = (coded(scheme, x, at(2)).reconstruction - x)[np.arange(len(x)) % 256 % GROUP != 0]
    assert np.abs(error).max() == pytest.approx(0.5 * 1.5 / 2, rel=0.01)
    assert error.std() == pytest.approx(0.5 * 1.5 / np.sqrt(12), rel=0.02)


def test_default_level_lands_where_the_paper_says() -> None:
    """3.5 to 4.3 times smaller than 8 bits: 1.9 to 2.3 bits per value over all layers."""
    x = walk(4)
    rates = [coded(fitted(1.0, layer), x, at(layer)).bits / x.size for layer in range(3)]
    assert 1.9 < np.mean(rates) < 2.9


def test_deltas_pay_when_tokens_resemble_each_other() -> None:
    near, far = walk(5, keep=0.99), walk(5, keep=0.0)
    near_error = coded(fitted(1.0, keep=0.99), near, at(0)).reconstruction - near
    far_error = coded(fitted(1.0, keep=0.0), far, at(0)).reconstruction - far
    assert near_error.std() < 0.4 * far_error.std()


def test_what_calibration_never_saw_is_escaped_not_lost() -> None:
    x = walk(6)
    x[5, 0, 0] = 1000.0
    scheme = fitted(0.25)
    result = coded(scheme, x, at(0))
    assert abs(result.reconstruction[5, 0, 0] - 1000.0) < 0.1
    x[5, 0, 0] = 0.0
    assert result.bits > coded(scheme, x, at(0)).bits + 16


def test_shipped_tables_cost_what_they_weigh() -> None:
    """33 x 16 bits a channel are 2.06 bits per value at 256 tokens; the rest is entropy."""
    x = np.tile(np.float32([1, -1] * 32).reshape(1, 2, 32), (256, 1, 1))
    result = coded(CacheGenShipped(), x, at(0))
    # A constant channel has no entropy: tables, stream lengths and maxima remain.
    assert result.bits == 64 * (33 * 16 + 32) + 16 * 256
    np.testing.assert_allclose(result.reconstruction, x)


def test_shipped_has_31_levels_in_early_layers_and_15_later() -> None:
    random = np.random.default_rng(7)
    x = random.uniform(-1, 1, (256, 2, 32)).astype(np.float32)
    x[:, 0, 0] = 1.0
    early = coded(CacheGenShipped(), x, Site("k", 9, 30, "bf16")).reconstruction
    late = coded(CacheGenShipped(), x, Site("k", 10, 30, "bf16")).reconstruction
    assert len(np.unique(early.round(4))) == 31
    assert len(np.unique(late.round(4))) == 15

"""The uniform quantizers against the figures their definitions and papers give."""

from __future__ import annotations

import numpy as np
import pytest

from bench.kv.baselines.scalar import Fp8E4M3, Int8PerToken, Kivi, round_e4m3
from bench.kv.baselines.scheme import Result, Scheme, Site, fp16

K, V = Site("k", 0, 30, "bf16"), Site("v", 0, 30, "bf16")


def gaussian(tokens: int = 512, heads: int = 4, dim: int = 64, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, heads, dim)).astype(np.float32)


def coded(scheme: Scheme, x: np.ndarray, where: Site) -> Result:
    (result,) = scheme.encode_decode(x, where)
    assert result.reconstruction.shape == x.shape
    return result


def relative(result: Result, x: np.ndarray) -> float:
    return float(np.linalg.norm(result.reconstruction - x) / np.linalg.norm(x))


@pytest.mark.parametrize("where", [K, V])
@pytest.mark.parametrize(("bits", "expected"), [(4, 5.0), (2, 3.0)])
def test_kivi_takes_exactly_one_bit_of_side_information_at_groups_of_32(
    where: Site, bits: int, expected: float
) -> None:
    x = gaussian()
    assert coded(Kivi(bits), x, where).bits / x.size == expected


@pytest.mark.parametrize("where", [K, V])
def test_kivi_error_stays_within_half_a_step_of_its_group(where: Site) -> None:
    x = gaussian()
    lines = x.reshape(len(x), -1) if where.kind == "k" else x.reshape(len(x), -1).T
    grouped = lines.reshape(-1, 32, lines.shape[1])
    step = (grouped.max(axis=1) - grouped.min(axis=1)) / 15
    error = np.abs(coded(Kivi(4), x, where).reconstruction - x).reshape(len(x), -1)
    error = error if where.kind == "k" else error.T
    # fp16 scale and zero move the grid by up to 2^-10 of its reach.
    assert (error.reshape(grouped.shape).max(axis=1) <= step * 0.5 + 0.02).all()


def test_kivi_quantizes_k_along_tokens_and_v_along_channels() -> None:
    x = gaussian()
    x[:, 0, 3] *= 100  # an outlier channel, as real K has them
    outlier = np.zeros(x.shape, bool)
    outlier[:, 0, 3] = True
    errors = {
        where.kind: np.abs(coded(Kivi(2), x, where).reconstruction - x)[~outlier].mean()
        for where in (K, V)
    }
    # Per channel the outlier harms itself alone; per token it harms the 31 beside it.
    assert errors["v"] > 1.5 * errors["k"]


def test_kivi_codes_a_tail_that_fills_no_group() -> None:
    x = gaussian(tokens=256 + 45)
    result = coded(Kivi(4), x, K)
    assert result.bits == 4 * x.size + 32 * 256 * (8 + 2)
    assert relative(result, x) < 0.12


def test_int8_costs_16_bits_a_token_and_errs_by_half_a_step() -> None:
    x = gaussian()
    result = coded(Int8PerToken(), x, K)
    assert result.bits == 8 * x.size + 16 * len(x)
    step = fp16(np.abs(x).max(axis=(1, 2), keepdims=True) / 127)
    # A scale that fp16 rounds down clips the largest value by up to 127 * 2^-11 of a step.
    assert (np.abs(result.reconstruction - x) <= 0.57 * step).all()


def test_e4m3_grid() -> None:
    # Every positive e4m3 number: fraction of 3 bits, exponents -6 to 8, 480 is NaN.
    normal = [(1 + f / 8) * 2.0**e for e in range(-6, 9) for f in range(8)][:-1]
    grid = np.array([f / 8 * 2.0**-6 for f in range(8)] + normal, np.float32)
    assert grid[-1] == 448
    np.testing.assert_array_equal(round_e4m3(grid), grid)
    x = np.random.default_rng(2).uniform(0, 470, 20_000).astype(np.float32)
    nearest = np.abs(x[:, None] - grid).min(axis=1)
    np.testing.assert_allclose(np.abs(round_e4m3(x) - x), nearest, atol=1e-6)


def test_fp8_error_is_that_of_three_fraction_bits() -> None:
    x = gaussian()
    result = coded(Fp8E4M3(), x, K)
    # Uniform in [1, 2) with step 1/8: step / sqrt(12) over a mean square of 7/3, 2.4 %.
    assert relative(result, x) == pytest.approx(0.0263, rel=0.05)
    assert result.bits == 8 * x.size + 32 * 2


@pytest.mark.parametrize("scheme", [Int8PerToken(), Fp8E4M3(), Kivi(4), Kivi(2)])
def test_zeros_and_one_token_decode(scheme: Scheme) -> None:
    zeros = np.zeros((1, 1, 40), np.float32)
    for where in (K, V):
        np.testing.assert_array_equal(coded(scheme, zeros, where).reconstruction, zeros)

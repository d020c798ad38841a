from __future__ import annotations

import numpy as np
import pytest

from bench.kv.rounding import from_bf16, rounded, to_bf16, to_fp16, widened


def f32(*bits: int) -> np.ndarray:
    return np.array(bits, np.uint32).view(np.float32)


def test_every_bf16_comes_back_as_it_is() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = from_bf16(bits)
    found = to_bf16(values)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(found[number], bits[number])
    assert np.isnan(from_bf16(found[~number])).all()


def test_bf16_takes_the_nearest_and_the_even_one_of_two() -> None:
    random = np.random.default_rng(1).integers(0, 1 << 32, 200_000, dtype=np.uint32)
    values = random.view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 3e38)]
    below = values.view(np.uint32) & np.uint32(0xFFFF0000)
    above = below + np.uint32(1 << 16)
    exact, low, high = (x.view(np.float32).astype(np.float64) for x in (values, below, above))
    to_low, to_high = np.abs(exact - low), np.abs(high - exact)
    odd = (below >> 16) & 1 == 1
    expected = np.where((to_high < to_low) | ((to_high == to_low) & odd), above, below)
    np.testing.assert_array_equal(to_bf16(values), (expected >> 16).astype(np.uint16))


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x3F808000, 0x3F80),  # a tie above an even one
        (0x3F818000, 0x3F82),  # a tie above an odd one
        (0x3F808001, 0x3F81),
        (0x80000000, 0x8000),  # -0
        (0x00000001, 0x0000),  # the least denormal
        (0x00018000, 0x0002),  # a tie among denormals
        (0x007FFFFF, 0x0080),  # the greatest denormal becomes normal
        (0x7F7FFFFF, 0x7F80),  # the greatest finite value becomes infinite
        (0x7F800000, 0x7F80),
        (0xFF800000, 0xFF80),
        (0x7F800001, 0x7FC0),  # a NaN whose payload is in the half that goes
        (0xFFFFFFFF, 0xFFFF),
    ],
)
def test_bf16_of_special_values(bits: int, expected: int) -> None:
    assert int(to_bf16(f32(bits))[0]) == expected


def test_fp16_ties_go_to_even_and_too_large_is_infinite() -> None:
    step = 2.0**-10
    found = to_fp16([1 + step / 2, 1 + 3 * step / 2, 65519.0, 65520.0, -1e9, 2.0**-25])
    np.testing.assert_array_equal(
        found.astype(np.float64), [1, 1 + 2 * step, 65504, np.inf, -np.inf, 0]
    )


@pytest.mark.parametrize(("dtype", "precision"), [("bf16", 2.0**-8), ("fp16", 2.0**-11)])
def test_rounded_and_widened_stay_within_half_a_step(dtype: str, precision: float) -> None:
    values = np.random.default_rng(2).standard_normal((64, 3, 8)).astype(np.float32)
    found = widened(rounded(values, dtype))
    assert found.dtype == np.float32
    assert found.shape == values.shape
    assert (np.abs(found - values) <= precision * np.abs(values)).all()

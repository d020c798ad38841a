from __future__ import annotations

import math

import numpy as np
import pytest

from bench.kv.geometry import Rope
from bench.kv.rope import rotate

ROPES = [
    Rope(10_000.0, 16, "interleaved"),
    Rope(10_000.0, 16, "halves"),
    Rope(500_000.0, 8, "halves", 0.25),
    Rope(100.0, 4, "interleaved", 2.0),
]


def rows(tokens: int = 12, heads: int = 2, head_dim: int = 16, seed: int = 0) -> np.ndarray:
    shape = (tokens, heads, head_dim)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rope", ROPES)
def test_turns_each_pair_by_its_own_angle(rope: Rope) -> None:
    x, first = rows(), 1000
    found = rotate(x, rope, first)
    expected = x.astype(np.float64)
    for token in range(len(x)):
        for pair in range(rope.dims // 2):
            if rope.pairing == "interleaved":
                one, two = 2 * pair, 2 * pair + 1
            else:
                one, two = pair, pair + rope.dims // 2
            angle = (first + token) * rope.scale * rope.theta ** (-2 * pair / rope.dims)
            a, b = x[token, :, one].astype(np.float64), x[token, :, two].astype(np.float64)
            expected[token, :, one] = a * math.cos(angle) - b * math.sin(angle)
            expected[token, :, two] = a * math.sin(angle) + b * math.cos(angle)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("rope", ROPES)
def test_inverse_restores_and_the_rest_of_a_head_is_untouched(rope: Rope) -> None:
    x = rows()
    turned = rotate(x, rope, 4000)
    np.testing.assert_allclose(rotate(turned, rope, 4000, inverse=True), x, atol=1e-6)
    np.testing.assert_array_equal(turned[..., rope.dims :], x[..., rope.dims :])


@pytest.mark.parametrize("rope", ROPES)
def test_scores_depend_on_the_distance_alone(rope: Rope) -> None:
    q, k = rows(1, 1, seed=1), rows(1, 1, seed=2)
    scores = [
        float((rotate(q, rope, at + 7) * rotate(k, rope, at)).sum()) for at in (0, 5, 999, 8000)
    ]
    np.testing.assert_allclose(scores, scores[0], atol=1e-5)


def test_no_rotated_channels_means_no_change() -> None:
    np.testing.assert_array_equal(rotate(rows(), Rope(1.0, 0, "halves"), 5), rows())


@pytest.mark.parametrize(
    ("theta", "dims", "pairing", "scale"),
    [
        (0.0, 16, "halves", 1.0),
        (math.nan, 16, "halves", 1.0),
        (1e4, 15, "halves", 1.0),
        (1e4, -2, "halves", 1.0),
        (1e4, 16, "thirds", 1.0),
        (1e4, 16, "halves", math.inf),
    ],
)
def test_impossible_ropes_are_refused(theta: float, dims: int, pairing: str, scale: float) -> None:
    with pytest.raises(ValueError, match="rope"):
        Rope(theta, dims, pairing, scale)

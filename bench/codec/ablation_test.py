"""The arithmetic of the ablation on cases whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.codec.ablation import haar, hadamard, rate, variances_over_tokens
from bench.codec.ablation_coding import (
    ESCAPE,
    ESCAPE_BITS,
    Sample,
    class_bits,
    our_tables,
    squared_error,
    table_bits,
)


def test_a_gaussian_takes_half_a_bit_for_each_factor_of_its_variance() -> None:
    variances, shares = np.array([4.0, 16.0]), np.array([0.5, 0.5])
    assert rate(variances, shares, 1.0) == pytest.approx((1 + 2) / 2, abs=1e-6)
    # What is below the level takes nothing, and its variance is its error.
    assert rate(np.array([0.5, 16.0]), shares, 0.75) == pytest.approx(2 / 2, abs=1e-6)


@pytest.mark.parametrize("size", [2, 8, 32])
def test_transforms_are_orthonormal(size: int) -> None:
    for matrix in (haar(size), hadamard(size)):
        assert np.allclose(matrix @ matrix.T, np.eye(size))


def test_deltas_against_an_anchor_have_one_token_of_ten_as_it_is() -> None:
    rows = np.random.default_rng(1).normal(size=(256, 3))
    variances, shares = variances_over_tokens(rows, "delta to an anchor")
    assert shares.sum() == pytest.approx(1)
    assert shares[:3].sum() == pytest.approx(26 / 256)
    # Independent tokens: a difference has twice the variance.
    assert variances[3:] / variances[:3] == pytest.approx(2, abs=0.5)


def test_each_key_has_a_table_and_each_cell_a_centroid() -> None:
    keys = np.array([0, 0, 0, 0, 5, 5])
    cells = np.array([1, -1, 1, -1, 7, 7])
    assert class_bits(keys, cells) == 4
    values = np.array([1.0, -1.5, 2.0, -1.5, 3.0, 5.0])
    assert squared_error(keys, cells, values) == pytest.approx(0.5 + 0 + 2)


def test_a_symbol_costs_what_its_frequency_says_and_an_escape_its_cell_too() -> None:
    table = our_tables()
    assert table.shape == (6, ESCAPE + 1)
    counts = np.zeros(ESCAPE + 1, np.int64)
    counts[4] = 3
    assert table_bits(counts, table[0]) == 3 * 7
    counts[0] = 1  # table 0 has no such cell
    assert table_bits(counts, table[0]) == 3 * 7 + ESCAPE_BITS + 6


def test_midrise_gets_finer_by_a_bit_a_plane_and_leaves_out_what_is_not_worth_a_cell() -> None:
    wide = np.random.default_rng(2).normal(size=(4096, 1))
    sample = Sample([np.concatenate([wide, wide / 1000], axis=1)])
    coarse, coarse_error = sample.coded("midrise", 0.5, 1)
    fine, fine_error = sample.coded("midrise", 0.25, 2)
    assert fine - coarse == pytest.approx(0.5)
    assert coarse_error / fine_error == pytest.approx(4, abs=0.3)

"""Tests of what is concluded from replays."""

from __future__ import annotations

import pytest

from bench.trace.conclusions import (
    LRU,
    OURS,
    Row,
    better,
    dominating,
    geometric_mean,
    ratios_to_lru,
)


def row(
    policy: str, saved: float, *, error: float = 0, capacity: int = 10, variant: str = ""
) -> Row:
    return Row(
        study="host",
        policy=policy,
        capacity=capacity,
        variant=variant,
        references=100,
        hits=20,
        hit_tokens=20 * 512,
        disk_hits=0,
        total_seconds=50,
        saved_seconds=saved,
        disk_writes=5,
        disk_bytes_written=40,
        mean_error=error,
    )


def test_the_better_variant_of_a_policy_stands_for_it() -> None:
    rows = [row("arc", 3, variant="any"), row("arc", 4, variant="leaves"), row("lfu", 1)]
    assert [(each.policy, each.variant) for each in better(rows)] == [
        ("arc", "leaves"),
        ("lfu", ""),
    ]


def test_ratios_are_taken_at_equal_capacity() -> None:
    rows = [row(LRU, 2, capacity=10), row(LRU, 5, capacity=20)]
    rows += [row(OURS, 6, capacity=10), row(OURS, 5, capacity=20), row("arc", 9, capacity=20)]
    assert ratios_to_lru(rows) == {10: 3, 20: 1}


def test_the_geometric_mean_of_a_ratio_and_its_inverse_is_one() -> None:
    assert geometric_mean([4, 0.25]) == pytest.approx(1)


def test_shares() -> None:
    assert row("arc", 10).saved_share == pytest.approx(0.2)
    assert row("arc", 10).hit_share == pytest.approx(0.2)
    assert row("arc", 10).disk_bytes_per_hit == pytest.approx(2)


@pytest.mark.parametrize(
    ("saved", "error", "capacity", "dominates"),
    [
        (6, 0.01, 10, True),
        (6, 0.02, 10, True),
        (5, 0.01, 10, True),
        (5, 0.02, 10, False),
        (6, 0.03, 10, False),
        (4, 0.01, 10, False),
        (6, 0.01, 20, False),
    ],
)
def test_only_what_is_no_worse_in_both_dominates(
    saved: float, error: float, capacity: int, dominates: bool
) -> None:
    mine = row(OURS, 5, error=0.02)
    other = row("arc", saved, error=error, capacity=capacity)
    assert (dominating(mine, [mine, other]) == [other]) is dominates

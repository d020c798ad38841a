"""The crowd in small: every client is served, nothing leaks, and the index is Jain's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from bench.crowd.crowd import fairness_index
from bench.crowd.run import CARRIERS, CASES, main
from bench.harness.report import Bench, Circumstances

ROOT = Path(__file__).resolve().parents[2]


def test_the_index_is_one_for_equals_and_a_share_for_one_of_many() -> None:
    assert fairness_index([3.0] * 64) == pytest.approx(1.0)
    assert fairness_index([5.0, 0.0, 0.0, 0.0]) == pytest.approx(1 / 4)
    # (1 + 2 + 3)^2 / (3 * (1 + 4 + 9))
    assert fairness_index([1.0, 2.0, 3.0]) == pytest.approx(36 / 42)
    assert fairness_index([0.0, 0.0]) == 0.0


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    for program in ("reprise", "crowd_client"):
        if not (ROOT / "build" / "bin" / program).exists():
            pytest.skip(f"build/bin/{program} is not built: ./dev build release")
    options = argparse.Namespace(only=None, carrier=None, small=True, cycles=None)
    lines: list[dict[str, Any]] = []
    circumstances = Circumstances("", "", "")
    bench = Bench("crowd", {}, circumstances, lines.append, root=ROOT, options=options)
    main(bench)
    return {line["figure"]: line["value"] for line in lines}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_no_client_fails_or_is_left_out(figures: dict[str, float], carrier: str) -> None:
    for case in ("fairness", "stopped", "churn"):
        assert figures[f"{carrier}_{case}_failed"] == 0
    assert figures[f"{carrier}_fairness_least_vs_mean"] > 0


@pytest.mark.parametrize("carrier", CARRIERS)
def test_clients_that_stop_do_not_stop_the_others(figures: dict[str, float], carrier: str) -> None:
    assert figures[f"{carrier}_stopped_others_keep"] > 0.5
    assert figures[f"{carrier}_stopped_memory"] < 1


@pytest.mark.parametrize("carrier", CARRIERS)
def test_sessions_that_end_leave_nothing_open(figures: dict[str, float], carrier: str) -> None:
    # One connection that ends while it is counted.
    assert figures[f"{carrier}_churn_store_descriptors"] <= 8
    assert figures[f"{carrier}_idle_descriptors"] < 3


@pytest.mark.parametrize("carrier", CARRIERS)
def test_too_much_load_stays_inside_both_budgets(figures: dict[str, float], carrier: str) -> None:
    name = f"{carrier}_overload"
    assert 0.1 < figures[f"{name}_memory"] < 1
    assert 0 < figures[f"{name}_disk"] < 1
    assert figures[f"{name}_due"] >= figures[f"{name}_stored"] > 0
    assert figures[f"{name}_fetched"] > 0
    assert figures[f"{name}_wrong"] == 0


def test_every_case_is_run(figures: dict[str, float]) -> None:
    for case in CASES:
        assert any(f"_{case}_" in figure or figure.endswith(case) for figure in figures)

"""What is concluded from what redis-benchmark prints, and which figures a round gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.harness.cost import Cost
from bench.harness.report import Bench, Circumstances
from bench.store.rivals import redis_benchmark_key, requests_per_second
from bench.store.run import Ratios, compare


def test_redis_benchmark_prints_names_then_values() -> None:
    printed = '"test","rps","avg_latency_ms"\n"GET","1523.50","0.300"\n'
    assert requests_per_second(printed) == pytest.approx(1523.5)


def test_keys_are_those_that_redis_benchmark_draws() -> None:
    assert redis_benchmark_key(7) == "key:000000000007"


class Side:
    def __init__(self, get: Cost, put: Cost) -> None:
        self.get = lambda: get
        self.put = lambda: put


def test_a_round_pairs_ours_with_each_rival() -> None:
    lines: list[dict[str, Any]] = []
    bench = Bench("store", {}, Circumstances("", "", ""), lines.append, root=Path(), options=None)
    sides = {
        "reprise": Side(Cost(6.0, 0.5), Cost(3.0, 1.0)),
        "redis": Side(Cost(4.0, 0.4), Cost(2.0, 0.8)),
        "mooncake": Side(Cost(2.0, 2.0), Cost(1.5, 2.0)),
    }
    ratios: Ratios = {}
    compare(bench, 4, sides, ratios)
    figures = {name: figure["value"] for name, figure in bench.finish()["figures"].items()}
    assert figures["redis_get_4m"] == pytest.approx(1.5)
    assert figures["redis_put_4m"] == pytest.approx(1.5)
    assert figures["mooncake_get_4m"] == pytest.approx(3.0)
    assert figures["cpu_per_gb_vs_redis"] == pytest.approx(1.25)
    assert figures["mooncake_put_4m_cpu"] == pytest.approx(2.0)
    assert [pair.ours / pair.yardstick for pair in ratios["put"]] == pytest.approx([2.0])

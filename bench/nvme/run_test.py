"""What is concluded from what fio prints, and who is measured when."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from bench.harness.cost import Cost
from bench.harness.report import Bench, Circumstances
from bench.nvme.run import WORKS, Side, Work, compare, fio_cost


def test_fio_counts_milliseconds_and_percent() -> None:
    moved = {"io_bytes": 4_000_000_000, "runtime": 2000}
    job = {"usr_cpu": 1.5, "sys_cpu": 8.5, "job_runtime": 2000, "read": moved}
    cost = fio_cost({"jobs": [job]}, "read")
    assert cost.goodput == pytest.approx(2.0)
    assert cost.cpu_seconds_per_gb == pytest.approx(0.05)


def test_all_sides_take_turns_at_going_first() -> None:
    order: list[tuple[str, str]] = []
    lines: list[dict[str, Any]] = []

    def side(name: str, cost: Cost) -> Side:
        def measure(work: Work) -> Cost:
            order.append((name, work.name))
            return cost

        return measure

    options = argparse.Namespace(rounds=3)
    bench = Bench("nvme", {}, Circumstances("", "", ""), lines.append, root=Path(), options=options)
    ours = {"": side("tier", Cost(1.0, 0.3)), "queue_": side("queue", Cost(3.0, 0.2))}
    compare(bench, ours, side("fio", Cost(2.0, 0.1)))
    assert len(order) == 3 * 3 * len(WORKS)
    firsts = [name for name, _ in order[::3]]
    assert firsts == [name for name in ("tier", "queue", "fio") for _ in WORKS]
    figures = bench.finish()["figures"]
    assert figures["read_64k_vs_fio"]["value"] == pytest.approx(0.5)
    assert figures["read_64k_cpu_vs_fio"]["value"] == pytest.approx(3.0)
    assert figures["queue_write_1m_vs_fio"]["value"] == pytest.approx(1.5)
    assert figures["queue_write_1m_cpu_vs_fio"]["value"] == pytest.approx(2.0)

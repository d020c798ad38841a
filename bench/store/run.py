"""What a get and a put of values cost over loopback TCP, beside Redis and Mooncake Store.

Each side has processes of its own and a working set of 1 GiB that is cycled; all three take turns,
round by round. Ours: `reprise store` and a client of the C++ SDK, the raw codec, every checksum
made and verified, the second of two moves in a new client process. Redis and Mooncake:
bench/store/rivals.py says with which settings.

Goodput is in GB/s (1e9). *_cpu are user and system seconds for each GB, of all processes of a side.
mooncake_get_min and mooncake_put_min are the worst of the three sizes' medians.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Protocol

from bench.harness.cost import Cost
from bench.harness.report import Bench
from bench.harness.samples import Pair, summarize_pairs
from bench.store.rivals import Mooncake, Redis
from bench.wire.processes import Store, store_with

SIZES_MIB = (1, 4, 16)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="pairs per figure (default 7)")
    parser.add_argument("--only", type=int, choices=SIZES_MIB, help="values of so many MiB alone")


class Side(Protocol):
    """Someone who moves the working set once."""

    def get(self) -> Cost: ...
    def put(self) -> Cost: ...


class Reprise:
    """Ours."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.prepare()

    def get(self) -> Cost:
        moved = self._store.measure("fetch")
        return Cost(moved.goodput, moved.cpu)

    def put(self) -> Cost:
        moved = self._store.measure("publish")
        return Cost(moved.goodput, moved.cpu)


Ratios = dict[str, list[Pair]]


def compare(bench: Bench, size_mib: int, sides: dict[str, Side], against_mooncake: Ratios) -> None:
    """One round. `sides` are "reprise", "redis" and "mooncake"."""
    for kind in ("get", "put"):
        costs = {name: getattr(side, kind)() for name, side in sides.items()}
        ours = costs["reprise"]
        for name, cost in costs.items():
            bench.sample(f"{name}_{kind}_{size_mib}m_cpu", cost.cpu_seconds_per_gb, "s/GB")
            if name != "reprise":
                figure = f"{name}_{kind}_{size_mib}m"
                bench.pair(figure, ours.goodput, cost.goodput, "GB/s")
        pair = Pair(ours.goodput, costs["mooncake"].goodput)
        against_mooncake.setdefault(kind, []).append(pair)
        if kind == "get" and size_mib == 4:
            redis = costs["redis"].cpu_seconds_per_gb
            bench.pair("cpu_per_gb_vs_redis", ours.cpu_seconds_per_gb, redis, "s/GB")


def main(bench: Bench) -> None:
    logs = bench.root / "build" / "bench"
    logs.mkdir(parents=True, exist_ok=True)
    worst: dict[str, list[float | None]] = {"get": [], "put": []}
    only = bench.options.only
    for size_mib in (only,) if only else SIZES_MIB:
        for kind, value in measure(bench, size_mib, logs).items():
            worst[kind].append(value)
    for kind, values in worst.items():
        known = [value for value in values if value is not None]
        # A size of which nothing is known might be the worst.
        if len(known) == len(SIZES_MIB):
            bench.sample(f"mooncake_{kind}_min", min(known), "x")


def measure(bench: Bench, size_mib: int, logs: Path) -> dict[str, float | None]:
    """All rounds of one size. Returns the median ratio to Mooncake by kind of work."""
    against_mooncake: Ratios = {}
    with contextlib.ExitStack() as running:
        ours = Reprise(running.enter_context(store_with(bench.binaries, size_mib)))
        redis = Redis(size_mib)
        running.callback(redis.stop)
        mooncake = Mooncake(size_mib, logs)
        running.callback(mooncake.stop)
        sides: dict[str, Side] = {"reprise": ours, "redis": redis, "mooncake": mooncake}
        for _ in range(bench.options.rounds):
            compare(bench, size_mib, sides, against_mooncake)
    summaries = {kind: summarize_pairs(pairs) for kind, pairs in against_mooncake.items()}
    return {kind: summary and summary.value for kind, summary in summaries.items()}

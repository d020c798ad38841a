"""Many clients at one store: do they get the same, and what do they cost?

fairness: clients in processes of their own fetch for a while; Jain's index of the bytes they got.
stopped: some of them are stopped (SIGSTOP) and go on later; what the others get meanwhile, as a
share of what they got before, and the store's memory as a share of its budget.
idle: what the store's resident memory grows by for each session that does nothing.
churn: sessions that are opened, used once and closed; what of descriptors, mappings (registered
memory is one each) and memory the store has more at the end than after a tenth of them.
overload: twice the pieces that the store can take, ten times its memory and more: the most that it
had of its memory and of its disk, as shares of what it was given, and what became of the pieces.

All on loopback, on every carrier. The full sizes are the default: 64 clients, 16 stopped for 5 s,
1,000 sessions, 100,000 cycles, 10 minutes. --small takes seconds, and shows only that everything
works.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
from dataclasses import dataclass

from bench.crowd.crowd import MIB, Fetchers, Footprint, Store, fairness_index, held_sessions, watch
from bench.crowd.overload import overload
from bench.harness.report import Bench

CASES = ["fairness", "stopped", "idle", "churn", "overload"]
CARRIERS = ["ucx", "grpc"]
MEMORY_MIB = 1024
PIECES = 16
PIECE_BYTES = 2 * MIB


@dataclass(frozen=True)
class Sizes:
    clients: int = 64
    seconds: float = 20.0
    stopped: int = 16
    stopped_seconds: float = 5.0
    sessions: int = 1000
    cycles: int = 100_000
    processes: int = 16
    overload_seconds: float = 600.0


SMALL = Sizes(
    clients=8,
    seconds=1.0,
    stopped=2,
    stopped_seconds=1.0,
    sessions=40,
    cycles=200,
    processes=2,
    overload_seconds=3.0,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=CASES, action="append", help="one of them; repeatable")
    parser.add_argument("--carrier", choices=CARRIERS, action="append", help="one; repeatable")
    parser.add_argument("--small", action="store_true", help="a few clients, for seconds")
    parser.add_argument("--cycles", type=int, help=f"of churn (default {Sizes().cycles:,})")


def fairness(bench: Bench, carrier: str, sizes: Sizes) -> None:
    with Store(bench.binaries, MEMORY_MIB) as store:
        keys = store.put(PIECES, PIECE_BYTES)
        with Fetchers(store, carrier, sizes.clients, keys) as fetchers:
            since, until, memory = watch(store, sizes.seconds)
            goodput = fetchers.goodput(since, until)
            failed = sum(status != 0 for status in fetchers.finish())
    bench.sample(f"{carrier}_fairness", fairness_index(goodput), "")
    bench.sample(f"{carrier}_fairness_goodput", sum(goodput) / 1e9, "GB/s")
    bench.sample(f"{carrier}_fairness_least_vs_mean", min(goodput) / mean(goodput), "x")
    bench.sample(f"{carrier}_fairness_memory", memory / store.memory_bytes, "x")
    bench.sample(f"{carrier}_fairness_failed", failed, "")


def stopped(bench: Bench, carrier: str, sizes: Sizes) -> None:
    with Store(bench.binaries, MEMORY_MIB) as store:
        keys = store.put(PIECES, PIECE_BYTES)
        with Fetchers(store, carrier, sizes.clients, keys) as fetchers:
            since, until, most = watch(store, sizes.stopped_seconds)
            before = fetchers.goodput(since, until)[sizes.stopped :]
            for client in fetchers.clients[: sizes.stopped]:
                client.signal(signal.SIGSTOP)
            since, until, most_meanwhile = watch(store, sizes.stopped_seconds)
            meanwhile = fetchers.goodput(since, until)
            for client in fetchers.clients[: sizes.stopped]:
                client.signal(signal.SIGCONT)
            failed = sum(status != 0 for status in fetchers.finish())
    others = meanwhile[sizes.stopped :]
    bench.sample(f"{carrier}_stopped_others_keep", sum(others) / sum(before), "x")
    bench.sample(f"{carrier}_stopped_others_fairness", fairness_index(others), "")
    memory = max(most, most_meanwhile) / store.memory_bytes
    bench.sample(f"{carrier}_stopped_memory", memory, "x")
    bench.sample(f"{carrier}_stopped_failed", failed, "")


def idle(bench: Bench, carrier: str, sizes: Sizes) -> None:
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(bench.binaries, MEMORY_MIB))
        # What the first sessions allocate once is not theirs.
        stack.enter_context(held_sessions(store, carrier, sizes.processes, sizes.processes))
        before = store.footprint()
        stack.enter_context(held_sessions(store, carrier, sizes.sessions, sizes.processes))
        after = store.footprint()
    grown = (after.memory_bytes - before.memory_bytes) / sizes.sessions
    bench.sample(f"{carrier}_idle_session", grown / 1024, "KiB")
    descriptors = (after.descriptors - before.descriptors) / sizes.sessions
    bench.sample(f"{carrier}_idle_descriptors", descriptors, "")


def churn(bench: Bench, carrier: str, sizes: Sizes) -> None:
    each = sizes.cycles // sizes.processes
    with Store(bench.binaries, MEMORY_MIB) as store, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(store.client(carrier, "churn", str(each)))
            for _ in range(sizes.processes)
        ]
        begun: list[Footprint] = []
        done = [0] * len(clients)
        while min(done) < each:
            for i, client in enumerate(clients):
                if done[i] < each:
                    done[i] = json.loads(client.line())["cycles"]
            if not begun and min(done) >= each // 10:
                begun = [program.footprint() for program in (store, *clients)]
        ended = [program.footprint() for program in (store, *clients)]
        failed = sum(client.finish() != 0 for client in clients)
    bench.sample(f"{carrier}_churn_cycles", sum(done), "")
    for who, first, last in (
        ("store", begun[0], ended[0]),
        ("client", begun[1], ended[1]),
    ):
        name = f"{carrier}_churn_{who}"
        bench.sample(f"{name}_memory", (last.memory_bytes - first.memory_bytes) / MIB, "MiB")
        bench.sample(f"{name}_descriptors", last.descriptors - first.descriptors, "")
        bench.sample(f"{name}_mappings", last.mappings - first.mappings, "")
    bench.sample(f"{carrier}_churn_failed", failed, "")


def overloaded(bench: Bench, carrier: str, sizes: Sizes) -> None:
    overload(bench, carrier, sizes.overload_seconds)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main(bench: Bench) -> None:
    options = bench.options
    sizes = SMALL if options.small else Sizes()
    if options.cycles:
        sizes = Sizes(**{**vars(sizes), "cycles": options.cycles})
    run = {
        "fairness": fairness,
        "stopped": stopped,
        "idle": idle,
        "churn": churn,
        "overload": overloaded,
    }
    for case in options.only or CASES:
        for carrier in options.carrier or CARRIERS:
            run[case](bench, carrier, sizes)

"""More load than a store can carry: does it stay inside its memory and its disk?

Clients publish new pieces and fetch earlier ones, first as fast as they get on, which is the load
that can be sustained; then twice as many pieces fall due, whatever becomes of those before.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.crowd.crowd import MIB, Program, Store
from bench.harness.report import Bench

MEMORY_MIB = 1024
DISK_BYTES = 4 << 30
PIECE_BYTES = 4 * MIB
CLIENTS = 4
AT_ONCE = 16


@dataclass
class Peaks:
    """The most that a store had of both, seen many times a second."""

    memory_bytes: int = 0
    disk_bytes: int = 0


@contextlib.contextmanager
def peaks_of(store: Store, disk: Path) -> Iterator[Peaks]:
    peaks = Peaks()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            peaks.memory_bytes = max(peaks.memory_bytes, store.footprint().memory_bytes)
            peaks.disk_bytes = max(peaks.disk_bytes, allocated_bytes(disk))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def allocated_bytes(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # given up meanwhile
            total += file.stat().st_blocks * 512
    return total


@dataclass(frozen=True)
class Outcome:
    """What became of a load."""

    counts: Counter[str]
    seconds: float

    @property
    def stored_per_second(self) -> float:
        return self.counts["stored"] / self.seconds


def load(store: Store, carrier: str, seconds: float, at_once: int, per_second: float) -> Outcome:
    """`per_second` of all clients together; 0: as fast as they get on."""
    each = [str(PIECE_BYTES), str(at_once), f"{per_second / CLIENTS:.6f}"]
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(store.client(carrier, "publish", *each)) for _ in range(CLIENTS)
        ]
        since = time.monotonic()
        last = [counts_for(client, since + seconds) for client in clients]
        seconds = time.monotonic() - since
        for client in clients:
            if status := client.finish():
                raise RuntimeError(f"a client under load ended with {status}")
    return Outcome(sum((Counter(counts) for counts in last), Counter()), seconds)


def counts_for(client: Program, until: float) -> dict[str, int]:
    """The last line that a client printed until then."""
    counts: dict[str, int] = {}
    while time.monotonic() < until:
        counts = json.loads(client.line())
    for line in client.lines_so_far():
        counts = json.loads(line)
    return counts


def overload(bench: Bench, carrier: str, seconds: float) -> None:
    parent = bench.root / "build" / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(parent).free < DISK_BYTES + (1 << 30):
        raise SystemExit(f"bench crowd: {parent} has no {(DISK_BYTES >> 30) + 1} GiB to spare")
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        disk = Path(folder) / "tier"
        with (
            Store(bench.binaries, MEMORY_MIB, (disk, DISK_BYTES)) as store,
            peaks_of(store, disk) as peaks,
        ):
            sustained = load(store, carrier, min(30, seconds), 2, 0).stored_per_second
            outcome = load(store, carrier, seconds, AT_ONCE, 2 * sustained)
            store.put(1, MIB)
    counts = outcome.counts
    due = sum(counts[name] for name in ("stored", "refused", "late", "dropped"))
    bench.sample(f"{carrier}_overload_seconds", outcome.seconds, "s")
    bench.sample(f"{carrier}_overload_memory", peaks.memory_bytes / store.memory_bytes, "x")
    bench.sample(f"{carrier}_overload_disk", peaks.disk_bytes / DISK_BYTES, "x")
    bench.sample(f"{carrier}_overload_sustained", sustained * PIECE_BYTES / 1e9, "GB/s")
    bench.sample(f"{carrier}_overload_due", due / outcome.seconds / sustained, "x")
    bench.sample(f"{carrier}_overload_stored", outcome.stored_per_second / sustained, "x")
    for name in ("refused", "late", "dropped", "fetched", "missed", "wrong"):
        bench.sample(f"{carrier}_overload_{name}", counts[name], "")

"""What reads and writes of a disk cost, beside fio, and how soon a store serves after a restart.

Three sides do the same work in turn, round by round, each going first as often: the nvme tier
(read_1m_vs_fio and so on: pieces of that size, in random order when read), our DiskQueue alone
(queue_read_1m_vs_fio: what the tier adds is between the two) and fio. All use io_uring, direct I/O,
registered buffers in huge pages, the same sizes and the same depth. Each has files of its own on
one file system, of one total size and written to the end before: what a file system gave out but
nobody wrote is read without the disk. Goodput is in GB/s (1e9); CPU is user and system seconds of
the process for each GB.

The tier that is written has four times the room of the others' files: its segments are a 32nd of
it, one flush of the disk goes with each that is used again, and those of a real disk are larger.

restart_1m_pieces_s: a store with a piece that was put durably and a million records of others in
its index is killed; the time is from its next start until `reprise get` has that piece from disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.cost import Cost
from bench.harness.report import Bench

GIB = 1 << 30
MIB = 1 << 20
# What a store needs to know of a million pieces: the disk's share of its memory, the index's share
# of its disk.
RESTART_MEMORY = 9 * GIB
RESTART_DISK = 40 * GIB
RESTART_PIECES = 1_000_000
WRITTEN_TIER_FACTOR = 4


@dataclass(frozen=True)
class Work:
    """What is asked of a side: operations of one kind and size."""

    name: str
    kind: str  # "read" or "write"
    size_bytes: int


WORKS = (
    Work("read_1m", "read", 1 << 20),
    Work("read_64k", "read", 64 << 10),
    Work("write_1m", "write", 1 << 20),
)


Side = Callable[[Work], Cost]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, help="where the files go (default build/bench/nvme)")
    parser.add_argument("--gib", type=int, default=2, help="size of each side's files (default 2)")
    parser.add_argument("--depth", type=int, default=32, help="operations at once (default 32)")
    parser.add_argument("--rounds", type=int, default=7, help="samples per figure (default 7)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a sample (default 3)")
    parser.add_argument("--only", choices=["disk", "restart"], help="leave the other part out")


def printed_by(command: list[str], environment: dict[str, str] | None = None) -> str:
    return subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def our_cost(command: list[str]) -> Cost:
    result = json.loads(printed_by(command))
    if result["backend"] != "io_uring" or not result["direct"]:
        raise SystemExit(
            f"bench nvme: the disk was reached through {result['backend']} with direct I/O "
            f"{result['direct']}; figures need io_uring and direct I/O: try another --dir"
        )
    return Cost.of(result["bytes"], result["seconds"], result["cpu_seconds"])


def tier_side(bench: Bench, folder: Path) -> Side:
    """NvmeTier, in a process of its own, on a directory for each work that it has filled."""
    program = str(bench.binaries / "tier_bench")
    options = bench.options

    def arguments(work: Work) -> list[str]:
        gib = options.gib * (WRITTEN_TIER_FACTOR if work.kind == "write" else 1)
        return [str(folder / work.name), str(gib * GIB), str(work.size_bytes)]

    for work in WORKS:
        printed_by([program, "prepare", *arguments(work)])

    def measure(work: Work) -> Cost:
        command = [program, work.kind, *arguments(work)]
        return our_cost([*command, str(options.depth), str(options.seconds)])

    return measure


def queue_side(bench: Bench, folder: Path) -> Side:
    """Our DiskQueue, in a process of its own."""
    program = str(bench.binaries / "queue_bench")
    options = bench.options
    own = folder / "queue"
    printed_by([program, "prepare", str(own), str(options.gib * GIB)])

    def measure(work: Work) -> Cost:
        command = [program, "move", str(own), work.kind, str(work.size_bytes)]
        return our_cost([*command, str(options.depth), str(options.seconds)])

    return measure


def fio_side(bench: Bench, folder: Path) -> Side:
    """The fio of the machine; the file that it writes was written by our program."""
    options = bench.options
    own = folder / "fio"
    prepare = [str(bench.binaries / "queue_bench"), "prepare", str(own), str(options.gib * GIB)]
    printed_by(prepare)
    common = ["fio", "--name=yardstick", "--output-format=json", "--thread"]
    common += ["--ioengine=io_uring", "--direct=1", "--fixedbufs=1", "--registerfiles=1"]
    common += [f"--iodepth={options.depth}", f"--runtime={options.seconds}", "--time_based"]
    # What makes fio fastest: no clock for each operation, no new data for each write, and memory
    # in huge pages as our arena's, which its own options give only where pages were reserved.
    common += ["--gtod_reduce=1", "--scramble_buffers=0", "--iomem_align=2m"]
    huge_pages = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    random = ["--rw=randread", "--norandommap", "--file_service_type=random"]

    def measure(work: Work) -> Cost:
        command = [*common, *(random if work.kind == "read" else ["--rw=write"])]
        command += [f"--filename={own}", f"--bs={work.size_bytes}"]
        return fio_cost(json.loads(printed_by(command, huge_pages)), work.kind)

    return measure


def fio_cost(result: dict[str, Any], kind: str) -> Cost:
    """fio counts time in milliseconds and CPU in percent of its job's time."""
    job = result["jobs"][0]
    moved = job[kind]
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1e3
    return Cost.of(moved["io_bytes"], moved["runtime"] / 1e3, busy)


def main(bench: Bench) -> None:
    folder: Path = bench.options.dir or bench.root / "build" / "bench" / "nvme"
    folder.mkdir(parents=True, exist_ok=True)
    needed = (len(WORKS) + 1 + WRITTEN_TIER_FACTOR) * bench.options.gib * GIB
    needed = max(needed, 2 * RESTART_PIECES * 4096) + GIB
    if shutil.disk_usage(folder).free < needed:
        raise SystemExit(f"bench nvme: {folder} has no {needed >> 30} GiB to spare: try --gib 1")
    if bench.options.only != "restart":
        with_files(folder / "disk", lambda inside: measure_disk(bench, inside))
    if bench.options.only != "disk":
        with_files(folder / "restart", lambda inside: measure_restart(bench, inside))


def with_files(folder: Path, use: Callable[[Path], None]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        use(folder)
    finally:
        shutil.rmtree(folder)


def measure_disk(bench: Bench, folder: Path) -> None:
    ours = {"": tier_side(bench, folder), "queue_": queue_side(bench, folder)}
    compare(bench, ours, fio_side(bench, folder))


def compare(bench: Bench, ours: dict[str, Side], fio: Side) -> None:
    """`ours` by what the names of its figures begin with."""
    sides = [*ours.items(), ("fio", fio)]
    for number in range(bench.options.rounds):
        first = number % len(sides)
        for work in WORKS:
            costs = {name: side(work) for name, side in sides[first:] + sides[:first]}
            yardstick = costs["fio"]
            for prefix in ours:
                name = f"{prefix}{work.name}"
                cost = costs[prefix]
                bench.pair(f"{name}_vs_fio", cost.goodput, yardstick.goodput, "GB/s")
                bench.pair(
                    f"{name}_cpu_vs_fio",
                    cost.cpu_seconds_per_gb,
                    yardstick.cpu_seconds_per_gb,
                    "s/GB",
                )


class Store:
    """A store process on a directory; the time of its start is taken before it is forked."""

    def __init__(self, bench: Bench, directory: Path) -> None:
        self._program = str(bench.binaries / "reprise")
        self.started = time.monotonic()
        command = [self._program, "store", "--listen", "127.0.0.1:0", "--metrics", "off"]
        command += ["--memory", str(RESTART_MEMORY), "--disk", str(directory)]
        command += ["--disk-size", str(RESTART_DISK), "--log-level", "warning"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        words = self._process.stdout.readline().split()[1:]
        if not words:
            raise SystemExit("bench nvme: the store did not start; its reason is above")
        self._address = dict(word.split("=", 1) for word in words)["grpc"]

    def run(self, *arguments: str) -> str:
        return printed_by([self._program, *arguments, "--store", self._address])

    def resident_mib(self) -> float:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        kib = sum(int(fields[name].split()[0]) for name in ("VmRSS", "HugetlbPages"))
        return kib / 1024

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def measure_restart(bench: Bench, folder: Path) -> None:
    directory = folder / "tier"
    content = folder / "content"
    content.write_bytes(os.urandom(MIB))
    store = Store(bench, directory)
    try:
        store.run("put", "probe", str(content), "--durable")
        bench.sample("empty_store_resident_mib", store.resident_mib(), "MiB")
    finally:
        store.kill()
    printed_by(
        [
            str(bench.binaries / "tier_bench"),
            "index",
            str(directory),
            str(RESTART_DISK),
            str(RESTART_PIECES),
        ]
    )
    for _ in range(bench.options.rounds):
        store = Store(bench, directory)
        try:
            store.run("get", "probe", "-o", str(folder / "copy"))
            bench.sample("restart_1m_pieces_s", time.monotonic() - store.started, "s")
            bench.sample("restart_1m_resident_mib", store.resident_mib(), "MiB")
        finally:
            store.kill()
        if (folder / "copy").read_bytes() != content.read_bytes():
            raise SystemExit("bench nvme: the store gave other bytes back than were put")

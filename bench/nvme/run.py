"""What reads and writes of a disk cost through our DiskQueue, beside fio.

Both use io_uring, direct I/O, registered buffers in huge pages, the same sizes and the same depth,
on files of their own in one directory that are preallocated and written alike. They are measured in
turn, round by round, and who goes first alternates. Goodput is in GB/s (1e9); CPU is user and
system seconds of the process for each GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.report import Bench

GIB = 1 << 30


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


@dataclass(frozen=True)
class Cost:
    """What a side took for it."""

    goodput: float
    cpu_seconds_per_gb: float

    @staticmethod
    def of(size_bytes: float, seconds: float, cpu_seconds: float) -> Cost:
        return Cost(size_bytes / seconds / 1e9, cpu_seconds / (size_bytes / 1e9))


Side = Callable[[Work], Cost]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, help="where the files go (default build/bench/nvme)")
    parser.add_argument("--gib", type=int, default=2, help="size of each file (default 2)")
    parser.add_argument("--depth", type=int, default=32, help="operations at once (default 32)")
    parser.add_argument("--rounds", type=int, default=7, help="pairs per figure (default 7)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a sample (default 3)")


def printed_by(command: list[str], environment: dict[str, str] | None = None) -> str:
    return subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def queue_side(bench: Bench, file: Path) -> Side:
    """Our DiskQueue, in a process of its own."""
    program = str(bench.binaries / "nvme_bench")
    options = bench.options
    printed_by([program, "prepare", str(file), str(options.gib * GIB)])

    def measure(work: Work) -> Cost:
        command = [program, "queue", str(file), work.kind, str(work.size_bytes)]
        command += [str(options.depth), str(options.seconds)]
        result = json.loads(printed_by(command))
        if result["backend"] != "io_uring" or not result["direct"]:
            raise SystemExit(
                f"bench nvme: {file} was reached through {result['backend']} with direct I/O "
                f"{result['direct']}; figures need io_uring and direct I/O: try another --dir"
            )
        return Cost.of(result["bytes"], result["seconds"], result["cpu_seconds"])

    return measure


def fio_side(bench: Bench, file: Path) -> Side:
    """The fio of the machine, on a file that our program has written."""
    options = bench.options
    prepare = [str(bench.binaries / "nvme_bench"), "prepare", str(file), str(options.gib * GIB)]
    printed_by(prepare)
    common = ["fio", "--name=yardstick", f"--filename={file}", "--output-format=json", "--thread"]
    common += ["--ioengine=io_uring", "--direct=1", "--fixedbufs=1", "--registerfiles=1"]
    common += [f"--iodepth={options.depth}", f"--runtime={options.seconds}", "--time_based"]
    # What makes fio fastest: no clock for each operation, no new data for each write, and memory
    # in huge pages as our arena's, which its own options give only where pages were reserved.
    common += ["--gtod_reduce=1", "--scramble_buffers=0", "--iomem_align=2m"]
    huge_pages = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

    def measure(work: Work) -> Cost:
        order = ["--rw=randread", "--norandommap"] if work.kind == "read" else ["--rw=write"]
        result = json.loads(printed_by([*common, *order, f"--bs={work.size_bytes}"], huge_pages))
        return fio_cost(result, work.kind)

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
    needed = 2 * bench.options.gib * GIB
    if shutil.disk_usage(folder).free < needed + GIB:
        raise SystemExit(f"bench nvme: {folder} has no {needed >> 30} GiB to spare: try --gib 1")
    files = [folder / "reprise.bench", folder / "fio.bench"]
    try:
        compare(bench, queue_side(bench, files[0]), fio_side(bench, files[1]))
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def compare(bench: Bench, ours: Side, fio: Side) -> None:
    for number in range(bench.options.rounds):
        for work in WORKS:
            if number % 2 == 0:
                cost, yardstick = ours(work), fio(work)
            else:
                yardstick = fio(work)
                cost = ours(work)
            name = f"queue_{work.name}"
            bench.pair(f"{name}_vs_fio", cost.goodput, yardstick.goodput, "GB/s")
            bench.pair(
                f"{name}_cpu_vs_fio",
                cost.cpu_seconds_per_gb,
                yardstick.cpu_seconds_per_gb,
                "s/GB",
            )

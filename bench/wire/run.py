"""What a fetch and a lookup cost over loopback, beside ucx_perftest with the same UCX settings.

A store process and a client process load a working set of 8 MiB (and 64 MiB) pieces into tensors,
every checksum verified; ucx_perftest re-sends one buffer with peer error handling on (-e). Both are
taken in turn, round by round. Goodput counts the bytes of the tensors, in GB/s (1e9).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.harness.report import Bench
from bench.harness.samples import quantile

MIB = 1 << 20
WORKING_SET_MIB = 1024
LOOKUPS = 3000
# Half of what a Lookup of 64 keys and its reply put on the wire together, so that one ping-pong of
# this size moves the same bytes: 64 keys of 34 bytes there, 64 pieces of about 48 bytes back.
LOOKUP_MESSAGE_BYTES = 2624


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="pairs per figure (default 7)")


class Store:
    """A running store process that holds WORKING_SET_MIB of pieces of one size."""

    def __init__(self, bench: Bench, piece_mib: int) -> None:
        self._client = bench.binaries / "wire_client"
        self._size = [str(piece_mib), str(WORKING_SET_MIB // piece_mib)]
        command = [str(bench.binaries / "reprise"), "store", "--listen", "127.0.0.1:0"]
        command += [
            "--data",
            "127.0.0.1:0",
            "--metrics",
            "off",
            "--memory",
            "3GiB",
            "--log-level",
            "warning",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        ready = dict(word.split("=", 1) for word in self._process.stdout.readline().split()[1:])
        self._address = ready["grpc"]
        self._run("ucx", "prepare")

    def fetch_goodput(self, carrier: str) -> float:
        """GB/s of loading the whole working set: the second of two loads, after a warm-up."""
        sample = json.loads(self._run(carrier, "fetch", "2").splitlines()[-1])
        return sample["bytes"] / sample["seconds"] / 1e9

    def lookup_seconds(self, carrier: str) -> list[float]:
        lines = self._run(carrier, "lookup", str(LOOKUPS)).splitlines()
        return [json.loads(line)["seconds"] for line in lines[LOOKUPS // 10 :]]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)

    def _run(self, carrier: str, *arguments: str) -> str:
        command = [str(self._client), self._address, carrier, *self._size, *arguments]
        return subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=300
        ).stdout


@contextlib.contextmanager
def store_with(bench: Bench, piece_mib: int) -> Iterator[Store]:
    store = Store(bench, piece_mib)
    try:
        yield store
    finally:
        store.stop()


class Perftest:
    """ucx_perftest between two processes, with our UCX settings on both ends."""

    def __init__(self, client: Path) -> None:
        printed = subprocess.run(
            [str(client), "settings"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        self._environment = {**dict(line.split("=", 1) for line in printed.split()), **os.environ}

    def goodput(self, message_mib: int) -> float:
        """GB/s of ucp_am_bw."""
        count = WORKING_SET_MIB // message_mib
        figures = self._run("ucp_am_bw", message_mib * MIB, count, warm_up=max(2, count // 10))
        return figures["overall_bw"] * MIB / 1e9

    def round_trip_seconds(self, message_bytes: int) -> float:
        """Twice the median one-way latency that ucp_am_lat prints."""
        figures = self._run("ucp_am_lat", message_bytes, LOOKUPS * 5, warm_up=LOOKUPS)
        return 2 * figures["50.0_percentile_lat"] / 1e6

    def _run(self, test: str, message_bytes: int, count: int, warm_up: int) -> dict[str, float]:
        port = free_port()
        common = ["ucx_perftest", "-p", str(port), "-e", "-t", test]
        environment = self._environment
        with subprocess.Popen(
            common, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                wait_until_listening(port)
                sizes = ["-s", str(message_bytes), "-n", str(count), "-w", str(warm_up)]
                command = [common[0], "127.0.0.1", *common[1:], *sizes, "-f", "-v"]
                printed = subprocess.run(
                    command,
                    env=environment,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                    timeout=120,
                ).stdout
            finally:
                server.kill()
        names, values = [line.split(",") for line in printed.splitlines() if "," in line][-2:]
        return {name.strip(): float(value) for name, value in zip(names, values, strict=True)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_listening(port: int) -> None:
    """ucx_perftest accepts one connection only, so its socket is looked up instead of tried."""
    wanted = f":{port:04X} "
    while not any(wanted in line for line in Path("/proc/net/tcp").read_text().splitlines()[1:]):
        os.sched_yield()


def main(bench: Bench) -> None:
    perftest = Perftest(bench.binaries / "wire_client")
    with store_with(bench, 8) as store:
        for _ in range(bench.options.rounds):
            bench.pair(
                "tcp_fetch_verified_8m", store.fetch_goodput("ucx"), perftest.goodput(8), "GB/s"
            )
            bench.sample("grpc_fetch_verified_8m", store.fetch_goodput("grpc"), "GB/s")
        for _ in range(bench.options.rounds):
            seconds = store.lookup_seconds("ucx")
            middle = statistics.median(seconds)
            yardstick = perftest.round_trip_seconds(LOOKUP_MESSAGE_BYTES)
            bench.pair("lookup64_p50_vs_roundtrip", middle * 1e6, yardstick * 1e6, "us")
            bench.sample("lookup64_p50", middle * 1e6, "us")
            bench.sample("lookup64_p99", quantile(seconds, 0.99) * 1e6, "us")
            bench.sample(
                "lookup64_grpc_p50", statistics.median(store.lookup_seconds("grpc")) * 1e6, "us"
            )
    with store_with(bench, 64) as store:
        for _ in range(bench.options.rounds):
            bench.pair(
                "tcp_fetch_verified_64m", store.fetch_goodput("ucx"), perftest.goodput(64), "GB/s"
            )

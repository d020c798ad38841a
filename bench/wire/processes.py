"""The processes of a measurement over loopback: our store and its client, and ucx_perftest."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.harness.cost import Cost, cpu_seconds, run_measured

MIB = 1 << 20
WORKING_SET_MIB = 1024


@dataclass(frozen=True)
class Sides:
    """Goodput, and the CPU seconds for each GB of either process."""

    goodput: float
    client_cpu: float
    server_cpu: float

    @property
    def cpu(self) -> float:
        return self.client_cpu + self.server_cpu


class Store:
    """A running store process, and a client process for each piece of work on its working set of
    WORKING_SET_MIB, in pieces of one size. With `counters`, a folder, both count heap allocations;
    with `same_host`, the clients read the store's memory.
    """

    def __init__(
        self,
        binaries: Path,
        piece_mib: int,
        counters: Path | None = None,
        same_host: bool = False,
    ) -> None:
        self._binaries = binaries
        self._counters = counters
        self._size = [str(piece_mib), str(WORKING_SET_MIB // piece_mib)]
        command = [str(binaries / "reprise"), "store", "--listen", "127.0.0.1:0"]
        command += ["--data", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--memory", "4GiB"]
        command += ["--same-host"] if same_host else []
        self._process = subprocess.Popen(
            [*command, "--log-level", "warning"],
            env={**os.environ, **self._counting()},
            cwd=counters,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        ready = dict(word.split("=", 1) for word in self._process.stdout.readline().split()[1:])
        self._address = ready["grpc"]
        self._metrics = ready["metrics"]

    def prepare(self, work: str = "prepare") -> None:
        self._run("wire_client", "ucx", work)

    def measure(self, work: str, carrier: str = "ucx", client: str = "wire_client") -> Sides:
        """Moving the whole working set once, after a warm-up."""
        before = cpu_seconds(self._process.pid)
        samples = [json.loads(line) for line in self._run(client, carrier, work, "2").splitlines()]
        moved = sum(sample["bytes"] for sample in samples)
        last = Cost.of(*(samples[-1][name] for name in ("bytes", "seconds", "cpu_seconds")))
        server = (cpu_seconds(self._process.pid) - before) / (moved / 1e9)
        return Sides(last.goodput, last.cpu_seconds_per_gb, server)

    def lookup_seconds(self, carrier: str, work: str, count: int) -> list[float]:
        """Without the first tenth."""
        lines = self._run("wire_client", carrier, work, str(count)).splitlines()
        return [json.loads(line)["seconds"] for line in lines[count // 10 :]]

    def allocations_per_mib(self) -> float:
        """Of both processes, while pieces stream."""
        pid = str(self._process.pid)
        counted = json.loads(self._run("wire_client", "ucx", "allocations", pid))
        return counted["allocations"] / (counted["bytes"] / MIB)

    def bytes_read_from_memory(self) -> float:
        """What clients on this host did not have sent; only with `same_host`."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        name = "reprise_store_same_host_bytes_total "
        return next(float(line.split()[1]) for line in lines if line.startswith(name))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)

    def _counting(self) -> dict[str, str]:
        library = self._binaries / "allocation_counter.so"
        return {"LD_PRELOAD": str(library)} if self._counters else {}

    def _run(self, client: str, carrier: str, *arguments: str) -> str:
        command = [str(self._binaries / client), self._address, carrier, *self._size, *arguments]
        return run_measured(command, self._counting(), self._counters)[0]


@contextlib.contextmanager
def store_with(
    binaries: Path, piece_mib: int, counters: Path | None = None, same_host: bool = False
) -> Iterator[Store]:
    store = Store(binaries, piece_mib, counters, same_host)
    try:
        yield store
    finally:
        store.stop()


class Perftest:
    """ucx_perftest between two processes, with peer error handling (-e)."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = {**environment, **os.environ}

    def measure(self, message_mib: int) -> Sides:
        """ucp_am_bw: messages of one size, WORKING_SET_MIB of them."""
        count = WORKING_SET_MIB // message_mib
        warm_up = max(2, count // 10)
        figures, client, server = self._run("ucp_am_bw", message_mib * MIB, count, warm_up)
        moved_gb = (count + warm_up) * message_mib * MIB / 1e9
        return Sides(figures["overall_bw"] * MIB / 1e9, client / moved_gb, server / moved_gb)

    def round_trip_seconds(self, message_bytes: int, count: int) -> float:
        """Twice the median one-way latency that ucp_am_lat prints."""
        figures, _, _ = self._run("ucp_am_lat", message_bytes, count, count // 5)
        return 2 * figures["50.0_percentile_lat"] / 1e6

    def _run(
        self, test: str, message_bytes: int, count: int, warm_up: int
    ) -> tuple[dict[str, float], float, float]:
        port = free_port()
        common = ["ucx_perftest", "-p", str(port), "-e", "-t", test]
        with subprocess.Popen(
            common, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                wait_until_listening(port)
                sizes = ["-s", str(message_bytes), "-n", str(count), "-w", str(warm_up)]
                printed, client_cpu = run_measured(
                    [common[0], "127.0.0.1", *common[1:], *sizes, "-f", "-v"], self._environment
                )
            finally:
                os.kill(server.pid, signal.SIGKILL)  # Popen.kill would lose what it used
                _, status, usage = os.wait4(server.pid, 0)
                server.returncode = os.waitstatus_to_exitcode(status)
        names, values = [line.split(",") for line in printed.splitlines() if "," in line][-2:]
        figures = {name.strip(): float(value) for name, value in zip(names, values, strict=True)}
        return figures, client_cpu, usage.ru_utime + usage.ru_stime


def read_and_check(binaries: Path, piece_mib: int) -> Cost:
    """vm_read: one thread that reads the working set out of another process, after a warm-up."""
    size = [str(piece_mib), str(WORKING_SET_MIB // piece_mib)]
    printed, _ = run_measured([str(binaries / "vm_read"), *size, "2"], {})
    last = json.loads(printed.splitlines()[-1])
    return Cost.of(last["bytes"], last["seconds"], last["cpu_seconds"])


def our_ucx_settings(binaries: Path) -> dict[str, str]:
    printed, _ = run_measured([str(binaries / "wire_client"), "settings"], {})
    return dict(line.split("=", 1) for line in printed.split())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_listening(port: int) -> None:
    """Looked up instead of tried: some servers accept one connection only."""
    wanted = f":{port:04X} "
    while not any(wanted in line for line in Path("/proc/net/tcp").read_text().splitlines()[1:]):
        os.sched_yield()

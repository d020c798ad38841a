"""The stores that ours is compared with, each in processes of its own on loopback."""

from __future__ import annotations

import csv
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from bench.harness.cost import Cost, cpu_seconds, run_measured
from bench.wire.processes import MIB, WORKING_SET_MIB, free_port, wait_until_listening

WORKING_SET_BYTES = WORKING_SET_MIB * MIB


class Redis:
    """Debian's redis-server without persistence, and redis-benchmark, which verifies nothing and
    sends one buffer again and again.

    On two cores more threads of either are of no use (redis.conf advises io-threads from four cores
    on). redis-benchmark draws its keys at random from the working set; how many connections serve
    it best is measured first, for each kind of work.
    """

    CONNECTIONS = (1, 2, 4, 8, 16, 50)

    def __init__(self, value_mib: int) -> None:
        self._value_bytes = value_mib * MIB
        self._values = WORKING_SET_MIB // value_mib
        self._port = free_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self._port)]
        command += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        self._folder = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen(command, cwd=self._folder.name, stdout=sys.stderr)
        wait_until_listening(self._port)
        self._fill()
        self._connections = {kind: self._best_connections(kind) for kind in ("get", "set")}

    def get(self) -> Cost:
        return self._measure("get", self._connections["get"])

    def put(self) -> Cost:
        return self._measure("set", self._connections["set"])

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait(timeout=20)
        self._folder.cleanup()

    def _fill(self) -> None:
        """Every key that redis-benchmark may draw, so that no GET is answered with nothing."""
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            for i in range(self._values):
                key = redis_benchmark_key(i)
                value = os.urandom(self._value_bytes)
                head = f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n${len(value)}\r\n"
                connection.sendall(head.encode() + value + b"\r\n")
                if (answer := connection.recv(64)) != b"+OK\r\n":
                    raise SystemExit(f"redis-server refuses a value: {answer!r}")

    def _best_connections(self, kind: str) -> int:
        return max(self.CONNECTIONS, key=lambda count: self._measure(kind, count).goodput)

    def _measure(self, kind: str, connections: int) -> Cost:
        before = cpu_seconds(self._server.pid)
        command = ["redis-benchmark", "-p", str(self._port), "-t", kind, "--csv"]
        command += ["-d", str(self._value_bytes), "-r", str(self._values)]
        command += ["-n", str(self._values), "-c", str(connections)]
        printed, client_cpu = run_measured(command, {})
        cpu = client_cpu + cpu_seconds(self._server.pid) - before
        seconds = self._values / requests_per_second(printed)
        return Cost.of(self._values * self._value_bytes, seconds, cpu)


def redis_benchmark_key(index: int) -> str:
    return f"key:{index:012}"


def requests_per_second(printed: str) -> float:
    """From redis-benchmark's CSV: a line of names, a line of values."""
    (line,) = csv.DictReader(printed.splitlines())
    return float(line["rps"])


class Mooncake:
    """mooncake_master, a process that gives memory, and a client process with the zero-copy calls.

    Over TCP (MC_STORE_MEMCPY=0: never a copy within the host instead). With and without a pool of
    connections, and with batches of several sizes; what serves a kind of work best is measured
    first.
    """

    BATCHES = (1, 4, 16, 64)

    def __init__(self, value_mib: int, folder: Path) -> None:
        self._deployments = [Deployment(value_mib, folder, pool) for pool in (False, True)]
        self._best = {kind: self._best_setting(kind) for kind in ("put", "get")}

    def get(self) -> Cost:
        deployment, batch = self._best["get"]
        return deployment.measure("get", batch)

    def put(self) -> Cost:
        deployment, batch = self._best["put"]
        return deployment.measure("put", batch)

    def stop(self) -> None:
        for deployment in self._deployments:
            deployment.stop()

    def _best_setting(self, kind: str) -> tuple[Deployment, int]:
        settings = itertools.product(self._deployments, self.BATCHES)
        return max(settings, key=lambda setting: setting[0].measure(kind, setting[1]).goodput)


class Deployment:
    """The processes of one setting; they write their logs to `folder`."""

    # Room for the working set below the share at which the master begins to evict.
    SEGMENT_BYTES = WORKING_SET_BYTES * 3 // 2

    def __init__(self, value_mib: int, folder: Path, pool: bool) -> None:
        self._environment = {**os.environ, "MC_STORE_MEMCPY": "0", "MC_LOG_LEVEL": "WARNING"}
        if pool:
            self._environment["MC_TCP_ENABLE_CONNECTION_POOL"] = "1"
        self._log = (folder / f"mooncake-{'pool' if pool else 'no-pool'}.log").open("w")
        self._processes: list[subprocess.Popen[str]] = []
        rpc, metrics = free_port(), free_port()
        bin_folder = Path(sys.executable).parent
        command = [str(bin_folder / "mooncake_master"), "--rpc_address=127.0.0.1"]
        command += [f"--rpc_port={rpc}", "--metrics_host=127.0.0.1", f"--metrics_port={metrics}"]
        self._start(command)
        wait_until_listening(rpc)
        program = str(Path(__file__).with_name("mooncake_process.py"))
        common = [sys.executable, program, f"127.0.0.1:{rpc}"]
        self._start_and_wait([*common, "hold", str(self.SEGMENT_BYTES)])
        sizes = [str(value_mib * MIB), str(WORKING_SET_MIB // value_mib)]
        self._client = self._start_and_wait([*common, "move", *sizes])

    def measure(self, kind: str, batch: int) -> Cost:
        pids = [process.pid for process in self._processes]
        before = cpu_seconds(*pids)
        print(kind, batch, file=stream(self._client.stdin), flush=True)
        seconds = json.loads(stream(self._client.stdout).readline())["seconds"]
        return Cost.of(WORKING_SET_BYTES, seconds, cpu_seconds(*pids) - before)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(timeout=20)
        self._log.close()

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if "mooncake_process.py" in " ".join(command) else self._log,
            stderr=self._log,
            text=True,
        )
        self._processes.append(process)
        return process

    def _start_and_wait(self, command: list[str]) -> subprocess.Popen[str]:
        process = self._start(command)
        if (line := stream(process.stdout).readline()) != "ready\n":
            raise SystemExit(f"Mooncake did not start: {line!r}; see {self._log.name}")
        return process


def stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe
    return pipe

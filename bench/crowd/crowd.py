"""The processes of a crowd: a store that is watched, and clients that load it."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MIB = 1 << 20
START_TIMEOUT_S = 120.0


def fairness_index(shares: Sequence[float]) -> float:
    """Jain's: 1 when all have the same, 1/n when one has everything, 0 when nobody has anything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


@dataclass(frozen=True)
class Footprint:
    """What a process holds of the machine."""

    memory_bytes: int  # resident, huge pages included
    descriptors: int
    mappings: int  # registered memory is one each

    @classmethod
    def of(cls, pid: int) -> Footprint:
        folder = Path("/proc") / str(pid)
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        kib = sum(int(status[name].split()[0]) for name in ("VmRSS", "HugetlbPages"))
        return cls(
            kib * 1024,
            len(list((folder / "fd").iterdir())),
            len((folder / "maps").read_text().splitlines()),
        )


class Program:
    """A child whose lines are kept as they come. Its input is closed to end it."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def footprint(self) -> Footprint:
        return Footprint.of(self.pid)

    def line(self, timeout_s: float = START_TIMEOUT_S) -> str:
        """The next line. RuntimeError when the program ends or says nothing for that long."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise RuntimeError(f"{self._process.args} says nothing") from None
        if line is None:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return line

    def lines_so_far(self) -> list[str]:
        found = []
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                found.append(line)
        return found

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def terminate(self) -> None:
        self._process.terminate()

    def finish(self, timeout_s: float = START_TIMEOUT_S) -> int:
        """Closes its input and returns its exit status."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            return self._process.wait(timeout_s)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


class Store(Program):
    """A store with pieces of random bytes in it; `disk` names a directory and its size."""

    def __init__(
        self, programs: Path, memory_mib: int, disk: tuple[Path, int] | None = None
    ) -> None:
        self._programs = programs
        self.memory_bytes = memory_mib * MIB
        command: list[str | Path] = [programs / "reprise", "store", "--listen", "127.0.0.1:0"]
        command += ["--metrics", "off", "--memory", f"{memory_mib}MiB", "--log-level", "warning"]
        if disk:
            command += ["--disk", disk[0], "--disk-size", str(disk[1])]
        super().__init__(command)
        self.address = dict(word.split("=", 1) for word in self.line().split()[1:])["grpc"]

    def put(self, count: int, piece_bytes: int) -> list[str]:
        """Publishes that many pieces and returns their keys."""
        keys = []
        with tempfile.TemporaryDirectory() as folder:
            for i in range(count):
                file = Path(folder) / f"{i}"
                file.write_bytes(secrets.token_bytes(piece_bytes))
                command = [self._programs / "reprise", "put", f"crowd-{i}", file, "--json"]
                printed = subprocess.run(
                    [*command, "--store", self.address], capture_output=True, text=True, check=True
                ).stdout
                keys.append(json.loads(printed)["key"])
        return keys

    def client(self, carrier: str, *what: str) -> Program:
        return Program([self._programs / "crowd_client", self.address, carrier, *what])


class Fetchers:
    """Clients that fetch all the time, each in a process of its own."""

    def __init__(self, store: Store, carrier: str, count: int, keys: Sequence[str]) -> None:
        self._stack = contextlib.ExitStack()
        self.clients: list[Program] = []
        for _ in range(count):
            client = self._stack.enter_context(store.client(carrier, "fetch", *keys))
            self.clients.append(client)
        self._loads: list[list[tuple[float, int]]] = [[] for _ in self.clients]
        for client in self.clients:
            client.line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def goodput(self, since: float, until: float) -> list[float]:
        """Bytes per second of each client between two moments of the monotonic clock."""
        for loads, client in zip(self._loads, self.clients, strict=True):
            loads += [
                (each["at"], each["bytes"]) for each in map(json.loads, client.lines_so_far())
            ]
        return [
            sum(moved for at, moved in loads if since <= at < until) / (until - since)
            for loads in self._loads
        ]

    def finish(self) -> list[int]:
        return [client.finish() for client in self.clients]


def watch(store: Store, seconds: float) -> tuple[float, float, int]:
    """Lets time pass: its beginning and end, and the most memory that the store had meanwhile."""
    pause = threading.Event()
    since = time.monotonic()
    most = 0
    while (now := time.monotonic()) < since + seconds:
        most = max(most, store.footprint().memory_bytes)
        pause.wait(min(0.05, since + seconds - now))
    return since, time.monotonic(), most


@contextlib.contextmanager
def held_sessions(store: Store, carrier: str, count: int, processes: int) -> Iterator[None]:
    """That many idle sessions, over a few processes."""
    shares = [count // processes + (i < count % processes) for i in range(processes)]
    with contextlib.ExitStack() as stack:
        holders = [
            stack.enter_context(store.client(carrier, "hold", str(share))) for share in shares
        ]
        for holder in holders:
            assert holder.line() == "ready"
        yield
        for holder in holders:
            if status := holder.finish():
                raise RuntimeError(f"a session was lost: a client ended with {status}")

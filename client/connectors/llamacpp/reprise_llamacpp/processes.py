"""The processes of the demo and of the integration tests: stores, workers, and any other program.

All are context managers whose process is gone when they exit. Not thread-safe.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0

Say = Callable[[str], None]


class ProcessError(RuntimeError):
    """A process did not do what it should; the message names it and says what it last said."""


def find_reprise(given: Path | None = None) -> Path:
    """The `reprise` program: the one given, else build/bin/reprise of the tree this is run in.

    Raises ProcessError, saying how to build it, if it is not there.
    """
    path = given or Path("build/bin/reprise")
    if not os.access(path, os.X_OK) or path.is_dir():
        raise ProcessError(f"there is no program {path}: ./dev build release reprise, or name it")
    return path.absolute()


class Process:
    """A child whose lines are collected: stdout in a queue, stderr as it comes."""

    def __init__(self, name: str, command: Sequence[str | Path], say: Say) -> None:
        self.name = name
        self._last_said = ""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._queue_lines, args=(_not_none(self._process.stdout),)),
            threading.Thread(target=self._say_lines, args=(_not_none(self._process.stderr), say)),
        ]
        for reader in self._readers:
            reader.daemon = True
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end_input(self) -> None:
        """Closes its stdin, which ends a worker that serves."""
        with contextlib.suppress(BrokenPipeError):
            _not_none(self._process.stdin).close()

    def wait(self, timeout_s: float) -> int:
        """Its exit status, once it has ended and all its lines were read. ProcessError if late."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} has not ended after {timeout_s:g} s") from None
        for reader in self._readers:
            reader.join()
        return status

    def read_line(self, timeout_s: float) -> str:
        """The next line of stdout. ProcessError if none comes in time, or at the end of it."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise ProcessError(f"{self.name} said nothing for {timeout_s:g} s") from None
        if line is None:
            status = self._process.wait()
            raise ProcessError(f"{self.name} ended with status {status}; last: {self._last_said}")
        return line

    def write_line(self, line: str) -> None:
        stdin = _not_none(self._process.stdin)
        try:
            stdin.write(line + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise ProcessError(f"{self.name} has ended; last: {self._last_said}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end_input()
        self._stop()
        for reader in self._readers:
            reader.join()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _queue_lines(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _say_lines(self, stream: IO[str], say: Say) -> None:
        for line in stream:
            self._last_said = line.strip()
            say(line.rstrip("\n"))


class StoreProcess(Process):
    """A `reprise store` on ports of its choice on this host."""

    def __init__(
        self, program: Path, say: Say, *, listen: str = "127.0.0.1:0", options: Sequence[str] = ()
    ) -> None:
        """Returns when it is ready; raises ProcessError if it does not get there."""
        command: list[str | Path] = [
            program,
            "store",
            "--listen",
            listen,
            "--metrics",
            "127.0.0.1:0",
        ]
        super().__init__("store", [*command, *options], say)
        try:
            self.ready_line = self.read_line(_START_TIMEOUT_S)
            words = dict(word.split("=", 1) for word in self.ready_line.split() if "=" in word)
            self.address = words["grpc"]
            self.metrics_address = words["metrics"]
        except (ProcessError, KeyError) as error:
            self.__exit__(None, None, None)
            if isinstance(error, KeyError):
                raise ProcessError(f"the store is not ready: {self.ready_line}") from None
            raise

    def metric(self, name: str) -> float:
        """A figure of its /metrics that has no labels."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=10) as page:
            for line in page.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        raise ProcessError(f"the store has no metric {name}")


class WorkerProcess(Process):
    """A worker in a process of its own that serves requests; see `reprise_llamacpp.worker`."""

    def __init__(self, name: str, store: str, say: Say, *, options: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "reprise_llamacpp.worker", "serve"]
        super().__init__(name, [*command, "--name", name, "--store", store, *options], say)

    def request(self, action: str, timeout_s: float, **fields: object) -> dict[str, Any]:
        """Sends a request and waits for its answer. ProcessError if it fails or is late."""
        self.write_line(json.dumps({"do": action, **fields}))
        answer = json.loads(self.read_line(timeout_s))
        if "error" in answer:
            raise ProcessError(f"{self.name} could not {action}: {answer['error']}")
        return answer


def _not_none(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream

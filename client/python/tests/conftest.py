"""A real store for the tests: the program that REPRISE_BIN names, else build/bin/reprise."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class StoreProcess:
    """`reprise store` on free ports of the loopback interface."""

    def __init__(self, binary: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                *(binary, "store", "--listen", "127.0.0.1:0", "--metrics", "off"),
                *("--memory", "512MiB", "--log-level", "warning"),
                *options,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        # The store says where it listens, or ends with a reason on standard error.
        ready = self.process.stdout.readline().split()
        assert ready and ready[0] == "ready", f"the store did not start: {ready}"
        self.address = dict(field.split("=", 1) for field in ready[1:])["grpc"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_store(binary: str) -> Callable[..., StoreProcess]:
    """Starts one with further options; whoever calls it kills it."""
    return lambda *options: StoreProcess(binary, *options)


@pytest.fixture
def binary() -> str:
    built = Path(__file__).resolve().parents[3] / "build" / "bin" / "reprise"
    path = Path(os.environ.get("REPRISE_BIN", built))
    if not path.exists():
        pytest.skip(f"there is no {path}: ./dev build release reprise")
    return str(path)


@pytest.fixture
def store(binary: str) -> Iterator[StoreProcess]:
    process = StoreProcess(binary)
    yield process
    process.kill()
    assert process.process.stdout is not None
    process.process.stdout.close()

"""A real store for the tests: the binary that REPRISE_BIN names."""

import os
import subprocess
from collections.abc import Iterator

import pytest


class StoreProcess:
    """`reprise store` on free ports of the loopback interface."""

    def __init__(self, binary: str) -> None:
        self.process = subprocess.Popen(
            [
                *(binary, "store", "--listen", "127.0.0.1:0", "--metrics", "off"),
                *("--memory", "512MiB", "--log-level", "warning"),
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
def store() -> Iterator[StoreProcess]:
    binary = os.environ.get("REPRISE_BIN")
    if not binary:
        pytest.skip("REPRISE_BIN does not name the reprise binary")
    process = StoreProcess(binary)
    yield process
    process.kill()
    assert process.process.stdout is not None
    process.process.stdout.close()

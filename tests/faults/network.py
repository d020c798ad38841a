"""Two network namespaces with a cable between them that can be cut, or made to lose one direction.

For root, on a kernel with veth. Nothing of the machine's own network is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

STORE_ADDRESS = "192.0.2.1"
CLIENT_ADDRESS = "192.0.2.2"
# Belongs to nobody: what is sent there arrives, and is dropped without a word.
_NOBODY = "02:00:00:00:00:99"
_CARRIER_S = 10.0


class NetworkError(Exception):
    """This machine, or this user, cannot have such a network. Says why."""


def _ip(*words: str) -> str:
    program = shutil.which("ip", path="/sbin:/usr/sbin:/bin:/usr/bin")
    if program is None:
        raise NetworkError("the program ip of iproute2 is not installed")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Side:
    """One end of the cable."""

    namespace: str
    address: str

    @property
    def command(self) -> Sequence[str]:
        """What runs a program there; it becomes that program, so its pid is the program's."""
        return ("ip", "netns", "exec", self.namespace)

    def ip(self, *words: str) -> str:
        return _ip("-n", self.namespace, *words)

    def hardware_address(self) -> str:
        return self._cable()["address"]

    def await_carrier(self) -> None:
        """The kernel takes a moment to say that a cable is plugged in, and programs look once."""
        give_up = time.monotonic() + _CARRIER_S
        while self._cable()["operstate"] != "UP":
            if time.monotonic() > give_up:
                raise NetworkError(f"the cable is not up after {_CARRIER_S:.0f} s")

    def _cable(self) -> dict[str, str]:
        return json.loads(self.ip("-json", "link", "show", "dev", "cable"))[0]


class Network:
    """The store's and the clients' namespace. Both are gone after close, or after the `with`."""

    def __init__(self) -> None:
        name = f"reprise-{os.getpid()}"
        self.store = Side(f"{name}-store", STORE_ADDRESS)
        self.clients = Side(f"{name}-clients", CLIENT_ADDRESS)
        try:
            for side in (self.store, self.clients):
                _ip("netns", "add", side.namespace)
                side.ip("link", "set", "lo", "up")
            peer = ("peer", "name", "cable", "netns", self.clients.namespace)
            self.store.ip("link", "add", "cable", "type", "veth", *peer)
            for side in (self.store, self.clients):
                side.ip("address", "add", f"{side.address}/24", "dev", "cable")
                side.ip("link", "set", "cable", "up")
            for side in (self.store, self.clients):
                side.await_carrier()
                _ip("netns", "exec", side.namespace, "true")
        except NetworkError:
            self.close()
            raise

    def cut(self, side: Side) -> None:
        """Switches the device of `side` off: it has no route any more, the other no carrier."""
        side.ip("link", "set", "cable", "down")

    def mend(self, side: Side) -> None:
        side.ip("link", "set", "cable", "up")

    def lose(self, source: Side, to: Side) -> None:
        """Everything that `source` sends is lost; what `to` sends still arrives."""
        self._point(source, to, _NOBODY, "permanent")

    def deliver(self, source: Side, to: Side) -> None:
        self._point(source, to, to.hardware_address(), "reachable")

    def close(self) -> None:
        for side in (self.store, self.clients):
            with contextlib.suppress(NetworkError):
                _ip("netns", "delete", side.namespace)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _point(self, source: Side, to: Side, hardware_address: str, state: str) -> None:
        neighbour = ("lladdr", hardware_address, "nud", state, "dev", "cable")
        source.ip("neighbour", "replace", to.address, *neighbour)

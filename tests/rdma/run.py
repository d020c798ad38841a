"""Shows that Reprise works over RDMA: two emulated machines with Soft-RoCE, a store and its client.

    ./dev rdma [--json] [--timeout SECONDS]

Exit status 0 when everything held, else 1 and one line that says what did not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.rdma import image, kv_dump, machines

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "build" / "release" / "bin"
SCRATCH = ROOT / "build" / "rdma"
LANE = "rc_verbs"


class ProofError(Exception):
    """Something did not hold."""


@dataclass
class Proof:
    """What was seen. Bytes are what the network of RoCE carried, headers included."""

    lane: str
    payload_bytes: int
    bytes_carried: int
    rdma_packets: int
    kv_bytes: int
    tests: int
    processor: str
    passed: bool


def say(words: str) -> None:
    print(f"   {words}", file=sys.stderr, flush=True)


def read_proof(lines: Sequence[str]) -> Proof:
    """What the client's machine printed, judged. ProofError says what is missing or too small."""
    for line in lines:
        if line.startswith("@failed "):
            raise ProofError(line.removeprefix("@failed "))
    moved = [_numbers(line, 3) for line in lines if line.startswith("@moved ")]
    kv = [_numbers(line, 3) for line in lines if line.startswith("@kv ")]
    tests = [_numbers(line, 1)[0] for line in lines if line.startswith("@tests ")]
    processor = [line.removeprefix("@processor ") for line in lines if line[:11] == "@processor "]
    if len(moved) != 2 or len(kv) != 1 or len(tests) != 1 or tests[0] == 0 or not processor:
        raise ProofError("the client's machine ended before everything had been tried")
    payload, carried, packets = (sum(column) for column in zip(*moved, strict=True))
    if carried <= payload:
        raise ProofError(f"{payload} bytes moved, but the RoCE network carried {carried}")
    if packets == 0:
        raise ProofError("the RDMA device counted no packet")
    lane = lane_of(lines)
    if lane != LANE:
        raise ProofError(f"the data lane is {lane}; {LANE} was expected")
    return Proof(lane, payload, carried, packets, kv[0][0], tests[0], processor[0].strip(), True)


def lane_of(lines: Sequence[str]) -> str:
    """The transports of the lanes that carry data, by UCX's own lines: one, or several with `+`."""
    found: set[str] = set()
    for line in lines:
        if line.startswith("@lanes "):
            # "ka" carries keep-alive messages only, once it is a lane of its own.
            found.update(re.findall(r"\b(?:am|am_bw|rma|rma_bw)(?:#\d+)?\((\w+)/", line))
    return "+".join(sorted(found)) or "unknown"


def _numbers(line: str, count: int) -> list[int]:
    words = line.split()[1:]
    if len(words) != count or not all(word.isdigit() for word in words):
        raise ProofError(f'the client\'s machine printed "{line}", not {count} numbers')
    return [int(word) for word in words]


@contextlib.contextmanager
def running_pair(kernel: Path, initramfs: Path, work: Path) -> Iterator[list[machines.Machine]]:
    """The store's and the client's machine, switched off at the end."""
    pair = [machines.boot("store", 0, kernel, initramfs, work)]
    try:
        if not machines.wait_for_sockets(pair[0], work, timeout_s=60):
            raise ProofError(f"QEMU did not start: {pair[0].last_words()}")
        pair.append(machines.boot("client", 1, kernel, initramfs, work))
        yield pair
    finally:
        for machine in pair:
            machine.kill()


def watch(pair: Sequence[machines.Machine], timeout_s: float) -> None:
    """Shows what the machines print until the client's has ended."""
    client = pair[1]
    give_up = time.monotonic() + timeout_s
    while client.status is None:
        for machine in pair:
            machine.read(lambda name, line: say(f"{name}: {line}"))
            if machine.status is not None and machine is not client:
                raise ProofError(f"the store ended with status {machine.status}")
            if not machine.runs_on(machines.POLL_S):
                raise ProofError(f"the {machine.name}'s machine died: {machine.last_words()}")
        if time.monotonic() > give_up:
            raise ProofError(f"no end after {timeout_s:.0f} s; --timeout SECONDS gives more")


def prove(timeout_s: float) -> Proof:
    SCRATCH.mkdir(parents=True, exist_ok=True)
    say("Debian's kernel, downloaded but not installed, in build/rdma")
    kernel = image.fetch_kernel(SCRATCH)
    rdma = shutil.which("rdma", path="/sbin:/usr/sbin:/bin:/usr/bin")
    if rdma is None:
        raise image.SetupError("the program rdma of iproute2 is not installed")
    programs = {name: PROGRAMS / name for name in ("reprise", "transport_ucx_test")}
    # Sockets have paths of at most 107 bytes, so they are not below the checkout.
    with tempfile.TemporaryDirectory(prefix="reprise-rdma-") as temporary:
        work = Path(temporary)
        kv_dump.write_dump(work / "data" / "kv")
        initramfs = work / "initramfs"
        image.write_initramfs(initramfs, kernel, {**programs, "rdma": Path(rdma)}, work / "data")
        say("two machines in QEMU: a store, and a client with files, pieces, KV and tests")
        with running_pair(kernel, initramfs, work) as pair:
            watch(pair, timeout_s)
            client = pair[1]
            proof = read_proof(client.lines)
            if client.status != 0:
                raise ProofError(f"the client's script ended with status {client.status}")
            return proof


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev rdma", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for the machines")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        proof = prove(arguments.timeout)
    except (ProofError, image.SetupError) as error:
        print(f"rdma: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"rdma": asdict(proof)}))
        return 0
    print(
        f"passed in {time.monotonic() - started:.0f} s: {proof.payload_bytes} bytes of files and "
        f"pieces and {proof.kv_bytes} bytes of KV, none wrong, and {proof.tests} tests of the "
        f"carrier; lane {proof.lane}, {proof.bytes_carried} bytes in {proof.rdma_packets} packets"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What `./dev rdma` accepts as a proof, and the archive that its machines boot from."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from tests.rdma.archive import Archive
from tests.rdma.run import ProofError, lane_of, read_proof

GOOD = (
    "@moved 48 60 2",
    "@moved 384 400 9",
    "@kv 100 120 3",
    "@processor avx2 ",
    "@lanes am(rc_verbs/rxe0:1) ka(ud_verbs/rxe0:1)",
    "@tests 47",
)


def test_adds_up_what_was_moved() -> None:
    proof = read_proof(GOOD)
    assert proof.payload_bytes == 432
    assert proof.bytes_carried == 460
    assert proof.rdma_packets == 11
    assert (proof.lane, proof.tests, proof.processor) == ("rc_verbs", 47, "avx2")
    assert proof.passed


@pytest.mark.parametrize(
    ("line", "instead", "why"),
    [
        ("@moved 384 400 9", "@moved 384 372 9", "carried 432"),
        ("@lanes", "@lanes am(tcp/eth1) ka(rc_verbs/rxe0:1)", "lane is tcp"),
        ("@lanes", "@lanes am(rc_verbs/rxe0:1) rma_bw#0(tcp/eth1)", r"lane is rc_verbs\+tcp"),
        ("@lanes", "nothing", "lane is unknown"),
        ("@tests", "@tests 0", "ended before everything"),
        ("@kv", "nothing", "ended before everything"),
        ("@kv", "@failed the KV came back with other bytes", "the KV came back with other bytes"),
        ("@moved 48", "@moved 48 x 2", "not 3 numbers"),
    ],
)
def test_refuses_what_does_not_hold(line: str, instead: str, why: str) -> None:
    lines = [instead if good.startswith(line) else good for good in GOOD]
    with pytest.raises(ProofError, match=why):
        read_proof(lines)


def test_keep_alive_is_no_data_lane() -> None:
    assert lane_of(["@lanes am(rc_verbs/rxe0:1) ka(ud_verbs/rxe0:1)"]) == "rc_verbs"


def test_an_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"12345")
    program.chmod(0o700)
    stream = io.BytesIO()
    archive = Archive(stream)
    archive.add_file(program, "/bin/program")
    archive.add_link("lib", "usr/lib")
    archive.add_bytes("etc/empty", b"")
    archive.close()
    try:
        listed = subprocess.run(
            ["cpio", "-tv", "--quiet"], input=stream.getvalue(), capture_output=True, check=True
        ).stdout.decode()
    except FileNotFoundError:
        pytest.skip("cpio is not installed")
    rows = [line.split() for line in listed.splitlines()]
    assert [(row[0], row[4], row[8]) for row in rows] == [
        ("drwxr-xr-x", "0", "bin"),
        ("-rwxr-xr-x", "5", "bin/program"),
        ("lrwxrwxrwx", "7", "lib"),
        ("drwxr-xr-x", "0", "etc"),
        ("-rw-r--r--", "0", "etc/empty"),
    ]

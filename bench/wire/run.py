"""What a fetch and a lookup cost over loopback, beside ucx_perftest with the same UCX settings.

A store process and a client process load a working set of 8 MiB (and 64 MiB) pieces into tensors,
every checksum verified; ucx_perftest re-sends one buffer with peer error handling on (-e), with our
UCX settings and, as plain_perftest, without. All are taken in turn, round by round. Goodput counts
the bytes of the tensors, in GB/s (1e9); FIGURE_*_cpu are user and system seconds for each GB.

tcp_fetch_bare_*: a client from which the verification was taken when it was linked.
same_host_fetch_verified: the fetch of 8 MiB pieces by a client that reads the store's memory,
beside one thread that copies the same amount out of another process and computes its CRC-32C.
layer_major_vs_whole: loads of a low level of encoded pieces, one layer of all chunks after the
other beside one chunk after the other; layer_major_exact_vs_whole: the same of raw pieces.
lookup64_*: lookups of 64 keys, lookup64_idle_p50 each after 10 ms without work.
heap_allocations_per_mib: every malloc of both processes and all their libraries while raw pieces
stream; what a load does once, at its beginning and end, is left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from bench.harness.report import Bench
from bench.harness.samples import quantile
from bench.wire.processes import (
    MIB,
    WORKING_SET_MIB,
    Perftest,
    Sides,
    Store,
    our_ucx_settings,
    read_and_check,
    store_with,
)

LOOKUPS = 3000
IDLE_LOOKUPS = 100
# Half of what a Lookup of 64 keys and its reply put on the wire together, so that one ping-pong of
# this size moves the same bytes: 64 keys of 34 bytes there, 64 pieces of about 48 bytes back.
LOOKUP_MESSAGE_BYTES = 2624


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="pairs per figure (default 7)")
    parser.add_argument(
        "--only",
        choices=["fetch", "same-host", "layers", "lookup", "heap"],
        help="leave the other parts out",
    )


def sample_cpu(bench: Bench, figure: str, receiver: float, sender: float) -> None:
    bench.sample(f"{figure}_receiver_cpu", receiver, "s/GB")
    bench.sample(f"{figure}_sender_cpu", sender, "s/GB")


def fetch(bench: Bench, piece_mib: int, with_settings: Perftest, plain: Perftest) -> None:
    with store_with(bench.binaries, piece_mib) as store:
        store.prepare()
        for _ in range(bench.options.rounds):
            yardstick = with_settings.measure(piece_mib)
            sample_cpu(bench, f"perftest_{piece_mib}m", yardstick.server_cpu, yardstick.client_cpu)
            for kind, client in ("verified", "wire_client"), ("bare", "wire_client_bare"):
                figure = f"tcp_fetch_{kind}_{piece_mib}m"
                ours = store.measure("fetch", client=client)
                bench.pair(figure, ours.goodput, yardstick.goodput, "GB/s")
                sample_cpu(bench, figure, ours.client_cpu, ours.server_cpu)
            bench.sample(f"plain_perftest_{piece_mib}m", plain.measure(piece_mib).goodput, "GB/s")
            grpc = store.measure("fetch", carrier="grpc")
            bench.sample(f"grpc_fetch_verified_{piece_mib}m", grpc.goodput, "GB/s")


def same_host(bench: Bench) -> None:
    figure = "same_host_fetch_verified"
    with store_with(bench.binaries, 8, same_host=True) as store:
        store.prepare()
        for _ in range(bench.options.rounds):
            yardstick = read_and_check(bench.binaries, 8)
            before = store.bytes_read_from_memory()
            ours = store.measure("fetch")
            if store.bytes_read_from_memory() - before < 2 * WORKING_SET_MIB * MIB:
                raise RuntimeError("the store sent bulk that its client was to read")
            bench.pair(figure, ours.goodput, yardstick.goodput, "GB/s")
            sample_cpu(bench, figure, ours.client_cpu, ours.server_cpu)
            bench.sample("vm_read_cpu", yardstick.cpu_seconds_per_gb, "s/GB")


def layers(bench: Bench) -> None:
    with store_with(bench.binaries, 8) as store:
        store.prepare()
        store.prepare("prepare-levels")

        def compare(figure: str, work: str) -> None:
            whole: Sides = store.measure(work)
            bench.pair(figure, store.measure(f"{work}-layers").goodput, whole.goodput, "GB/s")

        for _ in range(bench.options.rounds):
            compare("layer_major_vs_whole", "levels")
            compare("layer_major_exact_vs_whole", "fetch")


def lookup(bench: Bench, perftest: Perftest) -> None:
    with store_with(bench.binaries, 8) as store:
        store.prepare()
        for _ in range(bench.options.rounds):
            seconds = store.lookup_seconds("ucx", "lookup", LOOKUPS)
            middle = statistics.median(seconds)
            yardstick = perftest.round_trip_seconds(LOOKUP_MESSAGE_BYTES, LOOKUPS * 5)
            bench.pair("lookup64_p50_vs_roundtrip", middle * 1e6, yardstick * 1e6, "us")
            for name, fraction in ("p50", 0.5), ("p99", 0.99), ("p999", 0.999):
                bench.sample(f"lookup64_{name}", quantile(seconds, fraction) * 1e6, "us")
            sample_median(bench, "lookup64_idle_p50", store, "ucx", "idle-lookup", IDLE_LOOKUPS)
            sample_median(bench, "lookup64_grpc_p50", store, "grpc", "lookup", LOOKUPS)


def sample_median(
    bench: Bench, figure: str, store: Store, carrier: str, work: str, count: int
) -> None:
    seconds = store.lookup_seconds(carrier, work, count)
    bench.sample(figure, statistics.median(seconds) * 1e6, "us")


def heap(bench: Bench) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        store_with(bench.binaries, 8, counters=Path(folder)) as store,
    ):
        store.prepare()
        for _ in range(bench.options.rounds):
            bench.sample("heap_allocations_per_mib", store.allocations_per_mib(), "")


def main(bench: Bench) -> None:
    perftest = Perftest(our_ucx_settings(bench.binaries))
    only = bench.options.only
    if only in (None, "fetch"):
        fetch(bench, 8, perftest, Perftest({}))
        fetch(bench, 64, perftest, Perftest({}))
    if only in (None, "same-host"):
        same_host(bench)
    if only in (None, "layers"):
        layers(bench)
    if only in (None, "lookup"):
        lookup(bench, perftest)
    if only in (None, "heap"):
        heap(bench)

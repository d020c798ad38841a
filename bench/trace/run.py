"""What the tiering policy saves on a real trace, beside prefix-LRU, LFU, S3-FIFO, ARC and Belady.

Replays a trace of requests (12,031 of Mooncake's unless --trace names another) through
the store's own policies in virtual time: blocks of 512 tokens, whole pieces in host memory of 1,000
to 30,000 blocks; 3,000 blocks of host memory over 10,000 on a disk; and pieces that shed precision.
No figure depends on the machine. --docs writes the tables and plots of docs/tiering.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench.harness.report import Bench
from bench.trace.conclusions import (
    OURS,
    SHEDS,
    Row,
    better,
    dominating,
    geometric_mean,
    ratios_to_lru,
)

DEFAULT_TRACE = "../shared/traces/mooncake_conversation.jsonl"
PAIR = ("--policies", "tiering,prefix-lru")
# The host study again, on parts of the trace and with other costs.
VARIATIONS = {
    "first half of the trace": ("--count", "6015"),
    "second half": ("--first", "6015"),
    "cost without the quadratic term": ("--quadratic", "0"),
    "quadratic term times 4": ("--quadratic", "5.24288e-9"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help=f"default: {DEFAULT_TRACE} beside the tree"
    )
    parser.add_argument("--docs", action="store_true", help="writes the figures of docs/tiering.md")


def main(bench: Bench) -> None:
    trace = bench.options.trace or bench.root / DEFAULT_TRACE
    if not trace.exists():
        sys.exit(f"{trace} does not exist: name a trace with --trace FILE")
    host = better(replay(bench, trace, "--study", "host"))
    ratios = ratios_to_lru(host)
    for capacity, ratio in ratios.items():
        bench.sample(f"saved_vs_lru_{capacity}", ratio, "x")
    bench.sample("saved_vs_lru_geomean", geometric_mean(ratios.values()), "x")
    bench.sample("saved_vs_lru_min", min(ratios.values()), "x")
    tiers = replay(bench, trace, "--study", "tiers", "--capacities", "3000")
    sample_tiers(bench, tiers)
    shed = replay(bench, trace, "--study", "shed")
    beaten = [row for mine in shed if mine.variant == SHEDS for row in dominating(mine, shed)]
    bench.sample("shedding_dominated_by", len(beaten), "policies")
    if bench.options.docs:
        # Only whoever writes the page needs matplotlib.
        from bench.trace.pages import Results, write_docs

        varied = {
            name: ratios_to_lru(replay(bench, trace, *PAIR, *arguments))
            for name, arguments in VARIATIONS.items()
        }
        write_docs(bench.root / "docs", Results(host, tiers, shed, varied))


def sample_tiers(bench: Bench, rows: list[Row]) -> None:
    """The ratio is worth nothing, and is left out, when it was bought with hits."""
    [ours] = [row for row in rows if row.policy == OURS]
    [through] = [row for row in rows if row.policy != OURS]
    bench.sample("tiers_hits_vs_write_through", ours.hits / through.hits, "x")
    if ours.hits >= through.hits:
        ratio = ours.disk_bytes_per_hit / through.disk_bytes_per_hit
        bench.sample("disk_writes_vs_write_through", ratio, "x")


def replay(bench: Bench, trace: Path, *arguments: str) -> list[Row]:
    """Runs one study of the C++ replay."""
    command = [str(bench.binaries / "trace_replay"), str(trace), *arguments]
    print(f"replaying {' '.join(arguments)}", file=sys.stderr)
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [Row(**json.loads(line)) for line in printed.splitlines()]

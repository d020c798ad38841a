"""Writes what docs/tiering.md shows: tables between marks, and plots beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.trace.conclusions import OURS, SHEDS, Row, geometric_mean
from bench.trace.plots import saved_plot, shed_plot

BEGIN = "<!-- trace: written by ./dev bench trace --docs; do not edit -->"
END = "<!-- end of trace -->"


@dataclass(frozen=True)
class Results:
    host: Sequence[Row]  # the better variant of each policy
    tiers: Sequence[Row]
    shed: Sequence[Row]
    varied: Mapping[str, Mapping[int, float]]
    """By what was varied: seconds saved over prefix-LRU's, by capacity."""


def write_docs(docs: Path, results: Results) -> None:
    """Replaces what is between the marks of docs/tiering.md and writes the PNGs."""
    page = docs / "tiering.md"
    head, _, rest = page.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    page.write_text(f"{head}{BEGIN}\n\n{section(results)}\n\n{END}{tail}")
    saved_plot(results.host, docs / "tiering-saved.png")
    shed_plot(results.shed, docs / "tiering-shed.png")


def section(results: Results) -> str:
    return "\n\n".join(
        [
            "### Whole pieces in host memory: % of prefill seconds saved (% of blocks that hit)",
            host_table(results.host),
            "![Prefill seconds saved against capacity](tiering-saved.png)",
            "### The same on other input: seconds saved over prefix-LRU's",
            varied_table(results.varied),
            "### Host memory of 3,000 blocks over a disk of 10,000",
            tiers_table(results.tiers),
            "### Shedding: % of prefill seconds saved, and mean error of what was served",
            shed_table(results.shed),
            "![Seconds saved against error served](tiering-shed.png)",
        ]
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def capacities(rows: Sequence[Row]) -> list[int]:
    return sorted({row.capacity for row in rows})


def host_table(rows: Sequence[Row]) -> str:
    sizes = capacities(rows)
    lines = []
    for policy in dict.fromkeys(row.policy for row in rows):
        own = {row.capacity: row for row in rows if row.policy == policy}
        cells = [f"{100 * own[c].saved_share:.1f} ({100 * own[c].hit_share:.1f})" for c in sizes]
        lines.append([policy, *cells])
    return table(["policy", *(f"{size:,} blocks" for size in sizes)], lines)


def varied_table(varied: Mapping[str, Mapping[int, float]]) -> str:
    sizes = sorted(next(iter(varied.values())))
    lines = [
        [name, *(f"{ratios[size]:.2f}" for size in sizes), f"{geometric_mean(ratios.values()):.2f}"]
        for name, ratios in varied.items()
    ]
    return table(["", *(f"{size:,}" for size in sizes), "geometric mean"], lines)


def tiers_table(rows: Sequence[Row]) -> str:
    lines = [
        [
            f"{row.policy}, {row.variant}",
            f"{100 * row.saved_share:.1f}",
            f"{100 * row.hit_share:.1f}",
            f"{row.disk_hits:,}",
            f"{row.disk_writes:,}",
            f"{row.disk_writes / row.hits:.2f}",
        ]
        for row in rows
    ]
    header = ["policy", "% of seconds saved", "% of blocks that hit", "hits from disk"]
    return table([*header, "blocks written", "written per hit"], lines)


def shed_table(rows: Sequence[Row]) -> str:
    """Ours that sheds and, at each fixed level, ours and the best of the others."""
    sizes = capacities(rows)
    variants = list(dict.fromkeys(row.variant for row in rows))
    lines = []
    for variant in sorted(variants, key=lambda name: (name != SHEDS, name)):
        for is_ours in (True, False):
            own = [r for r in rows if r.variant == variant and (r.policy == OURS) is is_ours]
            if not own:
                continue
            cells = []
            for size in sizes:
                best = max((r for r in own if r.capacity == size), key=lambda r: r.saved_seconds)
                cells.append(f"{100 * best.saved_share:.1f} ({best.mean_error:.4f})")
            lines.append([f"{'tiering' if is_ours else 'best of the others'}, {variant}", *cells])
    return table(["", *(f"{size:,} blocks" for size in sizes)], lines)

"""The pictures of docs/tiering.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on a build machine

from matplotlib import pyplot

from bench.trace.conclusions import OURS, SHEDS, Row

MARKERS = "os^vD<"


def _finish(figure: pyplot.Figure, path: Path) -> None:
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def saved_plot(rows: Sequence[Row], path: Path) -> None:
    """Share of prefill seconds saved against capacity, a curve for each policy."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2))
    for marker, policy in zip(MARKERS, dict.fromkeys(row.policy for row in rows), strict=False):
        curve = sorted(
            (row.capacity, 100 * row.saved_share) for row in rows if row.policy == policy
        )
        is_ours = policy == OURS
        axes.plot(
            *zip(*curve, strict=True),
            marker=marker,
            markersize=5,
            linewidth=2.2 if is_ours else 1.0,
            linestyle=":" if policy == "optimum" else "-",
            color="black" if is_ours else None,
            label=policy,
        )
    axes.set_xscale("log")
    axes.set_xlabel("host memory, blocks of 512 tokens")
    axes.set_ylabel("prefill seconds saved, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, framealpha=0.6)
    _finish(figure, path)


def shed_plot(rows: Sequence[Row], path: Path) -> None:
    """Seconds saved against the mean error served: ours that sheds, all others at fixed levels."""
    capacities = sorted({row.capacity for row in rows})
    figure, panels = pyplot.subplots(
        1, len(capacities), figsize=(3.2 * len(capacities), 3.6), squeeze=False
    )
    for panel, capacity in zip(panels[0], capacities, strict=True):
        here = [row for row in rows if row.capacity == capacity]
        for marker, policy in zip(MARKERS, dict.fromkeys(row.policy for row in here), strict=False):
            points = [row for row in here if row.policy == policy and row.variant != SHEDS]
            panel.scatter(
                [row.mean_error for row in points],
                [100 * row.saved_share for row in points],
                marker=marker,
                s=18,
                label=f"{policy}, fixed level",
            )
        [ours] = [row for row in here if row.variant == SHEDS]
        panel.scatter(
            [ours.mean_error],
            [100 * ours.saved_share],
            marker="*",
            s=120,
            color="black",
            label="sheds",
        )
        panel.set_title(f"{capacity:,} blocks", fontsize=9)
        panel.set_xlabel("mean error of hits")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("prefill seconds saved, %")
    panels[0][0].legend(fontsize=6, framealpha=0.6)
    _finish(figure, path)

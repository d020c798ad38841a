"""Rate against error, one panel per model: the picture of docs/codec.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on a build machine

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.fidelity.rows import OURS, Row

MEASURES: dict[str, tuple[str, Callable[[Row], float | None]]] = {
    "mean_error": ("attention output error, mean layer", lambda row: row.mean_error),
    "worst_error": ("attention output error, worst layer", lambda row: row.worst_error),
    "kl": ("KL divergence, nats", lambda row: row.kl),
}
_MARKERS = "osD^v<>pXP*"
_OUR_COLOUR = "black"


def family(row: Row) -> str:
    """Schemes that differ in their rate alone are one curve."""
    if row.scheme.startswith(OURS):
        return row.scheme
    if row.scheme.startswith("CacheGen x"):
        return "CacheGen published" + (", absolute bins" if row.scheme.endswith("absolute") else "")
    if row.scheme.endswith("bit + 1%"):
        return "KVQuant + 1%"
    words = row.scheme.split()
    return words[0] if words[0] in ("KIVI", "KVQuant", "TurboQuant") else row.scheme


def rate_plot(rows: Sequence[Row], measure: str, dtype: str, path: Path) -> None:
    """Writes one PNG of lossy rows of `dtype`; a row without the measure is left out."""
    label, value = MEASURES[measure]
    shown = [row for row in rows if row.dtype == dtype and not row.lossless and value(row)]
    models = list(dict.fromkeys(row.model for row in shown))
    figure, panels = pyplot.subplots(
        1, max(len(models), 1), figsize=(5.2 * max(len(models), 1), 4.2), squeeze=False
    )
    for panel, model in zip(panels[0], models, strict=False):
        _panel(panel, [row for row in shown if row.model == model], value)
        panel.set_title(f"{model}, {dtype}")
        panel.set_xlabel("bits per value, everything counted")
    panels[0][0].set_ylabel(label)
    panels[0][-1].legend(fontsize=7, framealpha=0.6)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _panel(panel: Axes, rows: Sequence[Row], value: Callable[[Row], float | None]) -> None:
    families = list(dict.fromkeys(family(row) for row in rows))
    for index, name in enumerate(families):
        curve = sorted((row.bits, value(row)) for row in rows if family(row) == name)
        is_ours = name.startswith(OURS)
        panel.plot(
            *zip(*curve, strict=True),
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=5,
            linewidth=2.2 if is_ours else 1.0,
            color=_OUR_COLOUR if is_ours else f"C{index % 10}",
            label=name,
        )
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("{x:g}")
    panel.tick_params(axis="y", which="both", labelsize=7)
    panel.grid(alpha=0.3, which="both")

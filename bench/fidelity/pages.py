"""Writes what docs/codec.md shows: tables between marks, and plots beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.fidelity.comparison import comparisons
from bench.fidelity.plots import MEASURES, rate_plot
from bench.fidelity.rows import Row
from bench.fidelity.tables import comparison_table, fidelity_table

BEGIN = "<!-- fidelity: written by ./dev bench fidelity --docs; do not edit -->"
END = "<!-- end of fidelity -->"


def write_docs(docs: Path, rows: Sequence[Row]) -> None:
    """Replaces what is between the marks of docs/codec.md, or appends it, and writes the PNGs."""
    page = docs / "codec.md"
    text = page.read_text() if page.exists() else "# Codec\n\n"
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2] if rest else "\n"
    page.write_text(f"{head}{BEGIN}\n\n{section(rows)}\n{END}{tail}")
    for measure in MEASURES:
        rate_plot(rows, measure, rows[0].dtype, docs / picture(measure))


def picture(measure: str) -> str:
    return f"codec-{measure.replace('_', '-')}.png"


def section(rows: Sequence[Row]) -> str:
    """Plots, ratios if our own codec is among the rows, then one table per model and dtype."""
    parts = [
        f"![{label} against bits per value]({picture(name)})"
        for name, (label, _) in MEASURES.items()
    ]
    found = comparisons(rows)
    if found:
        parts.append("### Our bits at equal error\n\n" + comparison_table(found))
    for model, dtype in dict.fromkeys((row.model, row.dtype) for row in rows):
        own = [row for row in rows if (row.model, row.dtype) == (model, dtype)]
        parts.append(f"### {model}, {dtype}\n\n{fidelity_table(own)}")
    return "\n\n".join(parts)

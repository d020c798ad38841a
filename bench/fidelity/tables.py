"""Rows as Markdown, for docs/codec.md and docs of other models."""

from __future__ import annotations

from collections.abc import Sequence

from bench.fidelity.comparison import Comparison
from bench.fidelity.rows import Row

_HEADINGS = ("scheme", "bits", "K", "V", "mean error", "worst (layer)", "KL", "top-1", "lookup")


def fidelity_table(rows: Sequence[Row]) -> str:
    """Every scheme on one model and dtype, in the order given. A dash is what was not measured."""
    return _markdown(_HEADINGS, [_cells(row) for row in rows])


def comparison_table(found: Sequence[Comparison]) -> str:
    """Our bits at each rival's error, both ways of reading our curve; each rival once."""
    headings = (
        "model",
        "dtype",
        "rival",
        "its bits",
        "ours, a level",
        "ratio",
        "ours, curve",
        "ratio",
    )
    lines = [
        [
            each.rival.model,
            each.rival.dtype,
            each.rival.name,
            f"{each.rival.bits:.3f}",
            _number(each.measured, ".3f"),
            _number(each.measured_ratio, ".2f"),
            _number(each.interpolated, ".3f"),
            _number(each.interpolated_ratio, ".2f"),
        ]
        for each in {each.rival: each for each in found}.values()
    ]
    return _markdown(headings, lines)


def _cells(row: Row) -> list[str]:
    bits = [_number(value, ".3f") for value in (row.bits, row.k_bits, row.v_bits)]
    errors = ["0", "0"]
    if not row.lossless:
        errors = [f"{row.mean_error:.4f}", f"{row.worst_error:.4f} ({row.worst_layer})"]
    said = [_number(row.kl, ".2g"), _number(row.top1, ".1%"), _number(row.lookup, ".0%")]
    return [row.name, *bits, *errors, *said]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    marks = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (headings, marks, *lines)) + "\n"

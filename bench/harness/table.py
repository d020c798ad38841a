"""Figures as people read them: on the terminal and as docs/results.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.harness.targets import Target

Line = dict[str, Any]

_NOT_MEASURED = "not measured"


def number(value: float | None) -> str:
    """Four significant digits, never in powers of ten; a dash for nothing."""
    if value is None:
        return "-"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1e-4 else f"{value:.2e}"


def _target(figure: Line) -> str:
    return "" if figure["target"] is None else f"{figure['comparison']} {number(figure['target'])}"


def _verdict(figure: Line) -> str:
    if figure["value"] is None:
        return _NOT_MEASURED
    return {True: "holds", False: "DOES NOT HOLD", None: ""}[figure["holds"]]


def _row(name: str, figure: Line) -> list[str]:
    samples = str(figure["samples"])
    if figure["discarded"]:
        samples += f" (+{figure['discarded']} discarded)"
    cells = [number(figure["value"]), number(figure["spread"]), figure["unit"], _target(figure)]
    return [name, *cells, _verdict(figure), samples]


_HEADINGS = ["figure", "value", "spread", "unit", "target", "", "samples"]


def terminal_table(line: Line) -> str:
    """One benchmark's last line, in columns."""
    rows = [_HEADINGS] + [_row(name, figure) for name, figure in line["figures"].items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    head = f"{line['bench']} on {line['machine']}, commit {line['commit']}, {line['date']}"
    return "\n".join([head, "", *text])


def results_page(targets: Mapping[str, Mapping[str, Target]], lines: Iterable[Line]) -> str:
    """docs/results.md: every benchmark that was measured, and every listed figure that was not."""
    measured = {line["bench"]: line for line in lines}
    page = [
        "# Results",
        "",
        "Written by `./dev bench all`; do not edit. Ratios are medians of paired samples taken in",
        "one run; the spread is the interquartile range; pairs whose yardstick strays more than",
        "10 % from its median are discarded and counted. Targets are those of bench/targets.yaml;",
        "a figure without one is there for orientation.",
    ]
    for name in dict.fromkeys([*targets, *measured]):
        page += ["", f"## {name}", ""]
        page += _section(measured[name]) if name in measured else _missing(targets[name])
    return "\n".join(page) + "\n"


def _section(line: Line) -> list[str]:
    return [
        f"`{line['command']}` on {line['machine']}, {line['date']}, commit {line['commit']}.",
        "",
        *_markdown([_row(name, figure) for name, figure in line["figures"].items()]),
    ]


def _missing(targets: Mapping[str, Target]) -> list[str]:
    rows = [
        [name, "-", "-", target.unit, f"{target.comparison} {number(target.bound)}", "", "0"]
        for name, target in targets.items()
    ]
    return ["Not measured: this benchmark did not run or does not exist yet.", "", *_markdown(rows)]


def _markdown(rows: list[list[str]]) -> list[str]:
    lines = [" | ".join(row) for row in [_HEADINGS, ["---"] * len(_HEADINGS), *rows]]
    return [f"| {line} |" for line in lines]

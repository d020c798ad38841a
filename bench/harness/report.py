"""Collects the samples of one benchmark run and turns them into its JSON lines.

Every sample is a line as soon as it is taken; the last line holds the figures. Both go to the
`emit` callable, as dictionaries, so that the caller decides between JSON and a table. Not
thread-safe: one run, one thread.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.samples import Pair, Summary, steady_pairs, summarize, summarize_pairs
from bench.harness.targets import Target

Line = dict[str, Any]


@dataclass(frozen=True)
class Circumstances:
    """What a figure is worthless without."""

    machine: str
    commit: str
    command: str


class Bench:
    """What bench/NAME/run.py's main() receives: where things are, and where samples go."""

    def __init__(
        self,
        name: str,
        targets: dict[str, Target],
        circumstances: Circumstances,
        emit: Callable[[Line], None],
        *,
        root: Path,
        options: argparse.Namespace,
    ) -> None:
        self.name = name
        self.root = root
        self.options = options
        self._targets = targets
        self._circumstances = circumstances
        self._emit = emit
        self._values: dict[str, list[float]] = {}
        self._pairs: dict[str, list[Pair]] = {}
        self._units: dict[str, str] = {}

    @property
    def binaries(self) -> Path:
        """Where the release build puts its programs."""
        return self.root / "build" / "bin"

    def sample(self, figure: str, value: float, unit: str) -> None:
        """One measurement of a plain quantity. ValueError when the unit differs from the target's
        or an earlier one.
        """
        self._claim(figure, unit)
        if figure in self._pairs:
            raise ValueError(f"{figure} was sampled in pairs before")
        self._values.setdefault(figure, []).append(value)
        self._emit({"bench": self.name, "figure": figure, "value": value, "unit": unit})

    def pair(self, figure: str, ours: float, yardstick: float, unit: str) -> None:
        """One measurement of ours and of the yardstick, taken right after each other, both in
        `unit`.

        The figure is their ratio, with unit "x"; `FIGURE.ours` and `FIGURE.yardstick` are reported
        beside it.
        """
        self._claim(figure, "x")
        self._claim(f"{figure}.ours", unit)
        if figure in self._values:
            raise ValueError(f"{figure} was sampled without a yardstick before")
        self._pairs.setdefault(figure, []).append(Pair(ours, yardstick))
        self._emit(
            {
                "bench": self.name,
                "figure": figure,
                "ours": ours,
                "yardstick": yardstick,
                "unit": unit,
            }
        )

    def finish(self) -> Line:
        """Emits and returns the last line. A listed figure without samples has value null and does
        not hold.
        """
        figures: dict[str, Line] = {name: {} for name in self._targets}
        for name, values in self._values.items():
            figures[name] = self._figure(name, self._units[name], summarize(values))
        for name, pairs in self._pairs.items():
            figures[name] = self._figure(name, "x", summarize_pairs(pairs))
            steady = steady_pairs(pairs) or pairs
            unit = self._units[f"{name}.ours"]
            for side in ("ours", "yardstick"):
                side_name = f"{name}.{side}"
                side_values = [getattr(pair, side) for pair in steady]
                figures[side_name] = self._figure(side_name, unit, summarize(side_values))
        for name, target in self._targets.items():
            figures[name] = figures[name] or self._figure(name, target.unit, None)
        line = {
            "bench": self.name,
            "machine": self._circumstances.machine,
            "commit": self._circumstances.commit,
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "command": self._circumstances.command,
            "figures": figures,
        }
        self._emit(line)
        return line

    def _claim(self, figure: str, unit: str) -> None:
        target = self._targets.get(figure)
        expected = self._units.setdefault(figure, target.unit if target else unit)
        if unit != expected:
            raise ValueError(f"{figure} is in {expected!r}, not in {unit!r}")

    def _figure(self, name: str, unit: str, summary: Summary | None) -> Line:
        target = self._targets.get(name)
        holds = None
        if target:
            holds = summary is not None and target.holds(summary.value)
        return {
            "value": summary.value if summary else None,
            "spread": summary.spread if summary else None,
            "unit": unit,
            "target": target.bound if target else None,
            "comparison": target.comparison if target else None,
            "holds": holds,
            "samples": summary.used if summary else 0,
            "discarded": summary.discarded if summary else len(self._pairs.get(name, [])),
        }

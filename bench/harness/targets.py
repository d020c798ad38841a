"""Reads bench/targets.yaml: the figures each benchmark must show, and their bounds."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

TARGETS_FILE = Path(__file__).resolve().parents[1] / "targets.yaml"

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Target:
    """One line of targets.yaml."""

    comparison: str
    bound: float
    unit: str
    meaning: str

    def holds(self, value: float) -> bool:
        return _COMPARISONS[self.comparison](value, self.bound)

    def __str__(self) -> str:
        return f"{self.comparison} {self.bound:g} {self.unit}".rstrip()


def read_targets(path: Path = TARGETS_FILE) -> dict[str, dict[str, Target]]:
    """Figures by benchmark, in the file's order. ValueError names the line that is not a target."""
    targets: dict[str, dict[str, Target]] = {}
    for bench, figures in yaml.safe_load(path.read_text()).items():
        targets[bench] = {name: _target(bench, name, line) for name, line in figures.items()}
    return targets


def _target(bench: str, name: str, line: object) -> Target:
    if not isinstance(line, list) or len(line) != 4:
        raise ValueError(
            f"{bench}.{name}: expected [comparison, target, unit, meaning], got {line!r}"
        )
    comparison, bound, unit, meaning = line
    if comparison not in _COMPARISONS or not isinstance(bound, int | float):
        raise ValueError(f"{bench}.{name}: no such comparison or bound: {comparison!r} {bound!r}")
    return Target(comparison, float(bound), str(unit), str(meaning))

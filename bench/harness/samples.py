"""Samples of one figure and what is concluded from them.

A figure is either a plain quantity, sampled a few times, or a ratio ours / yardstick, sampled in
pairs taken one right after the other. A pair whose yardstick strays more than 10 % from the median
yardstick says something about the machine, not about us: it is discarded and counted. The value is
the median of what is left, the spread its interquartile range, in the figure's own unit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

YARDSTICK_TOLERANCE = 0.10


@dataclass(frozen=True)
class Summary:
    """The conclusion: `used` samples gave the value, `discarded` pairs did not count."""

    value: float
    spread: float
    used: int
    discarded: int = 0


@dataclass(frozen=True)
class Pair:
    """One measurement of ours and, beside it, of the yardstick, in the same unit."""

    ours: float
    yardstick: float


def quantile(values: Sequence[float], fraction: float) -> float:
    """Linear interpolation between order statistics (type 7 of Hyndman and Fan, 1996)."""
    ordered = sorted(values)
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def summarize(values: Sequence[float], discarded: int = 0) -> Summary:
    """ValueError without a sample or with one that is not a finite number."""
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"expected finite samples, got {list(values)!r}")
    spread = quantile(values, 0.75) - quantile(values, 0.25)
    return Summary(statistics.median(values), spread, len(values), discarded)


def steady_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose yardstick is within the tolerance of the median one, bounds included."""
    middle = statistics.median(pair.yardstick for pair in pairs)
    return [
        pair for pair in pairs if abs(pair.yardstick - middle) <= YARDSTICK_TOLERANCE * abs(middle)
    ]


def summarize_pairs(pairs: Sequence[Pair]) -> Summary | None:
    """The ratio's summary; None when fewer than half of the pairs are steady: then nothing can be
    concluded.
    """
    if any(pair.yardstick == 0 for pair in pairs):
        raise ValueError("a yardstick of 0 makes no ratio")
    steady = steady_pairs(pairs)
    if 2 * len(steady) < len(pairs):
        return None
    ratios = [pair.ours / pair.yardstick for pair in steady]
    return summarize(ratios, len(pairs) - len(steady))

"""Bits of one scheme at the error of another: what "smaller at equal quality" means in numbers.

A point of a rate curve is what was measured at one level: bits per value, and two errors that must
both be met. Two answers are given, and every table says which one it shows:

- measured: the bits of our smallest level that is at least as good on both errors;
- interpolated: where our own curve crosses each error, linear in the logarithm of the error between
  two neighbouring measured levels, and the larger of both crossings. Nothing is extrapolated: an
  error above our coarsest level's costs that level's bits, one below our finest lossy level's
  the lossless ones, or nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One level of one scheme on one dump."""

    bits: float
    mean_error: float
    worst_error: float

    def as_good_as(self, other: Point) -> bool:
        return self.mean_error <= other.mean_error and self.worst_error <= other.worst_error


def measured_bits(ours: Sequence[Point], theirs: Point) -> float | None:
    """None when none of our levels is as good."""
    return min((point.bits for point in ours if point.as_good_as(theirs)), default=None)


def interpolated_bits(ours: Sequence[Point], theirs: Point) -> float | None:
    """As `measured_bits`, along our own rate curve; None when no level is as good."""
    crossings = [
        _crossing([(p.bits, p.mean_error) for p in ours], theirs.mean_error),
        _crossing([(p.bits, p.worst_error) for p in ours], theirs.worst_error),
    ]
    found = [bits for bits in crossings if bits is not None]
    return max(found) if len(found) == len(crossings) else None


def _crossing(curve: Sequence[tuple[float, float]], error: float) -> float | None:
    """Bits at which the curve of (bits, error) comes down to `error`."""
    best: float | None = None
    ordered = sorted(curve)
    for index, (bits, reached) in enumerate(ordered):
        if reached > error:
            continue
        best = bits
        if index > 0 and 0 < reached < error:
            before_bits, before = ordered[index - 1]
            share = math.log(before / error) / math.log(before / reached)
            best = before_bits + share * (bits - before_bits)
        break
    return best

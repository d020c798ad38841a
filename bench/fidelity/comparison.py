"""Ratios of our bits to each baseline's, and how small a near-lossless level gets.

All are worst cases: over models, dtypes and the baseline's levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.fidelity.rates import Point, interpolated_bits, measured_bits
from bench.fidelity.rows import OURS, PROFILED, Row

NEAR_LOSSLESS_KL = 0.01
NEAR_LOSSLESS_TOP1 = 0.97

# The baselines that a figure is about; most are figures of bench/targets.yaml under `codec`.
RIVALS: dict[str, Callable[[Row], bool]] = {
    "bits_vs_cachegen_published": lambda r: r.scheme.startswith("CacheGen x"),
    "bits_vs_cachegen_shipped": lambda r: r.scheme == "CacheGen shipped",
    "bits_vs_kivi2": lambda r: r.scheme == "KIVI 2 bit",
    "bits_vs_kivi4": lambda r: r.scheme == "KIVI 4 bit",
    "bits_vs_turboquant_worst": lambda r: r.scheme.startswith("TurboQuant"),
    "bits_vs_kvquant_worst": lambda r: r.scheme.startswith("KVQuant"),
    "bits_vs_kvquant3": lambda r: r.scheme.startswith("KVQuant 3"),
}


@dataclass(frozen=True)
class Comparison:
    """One of our curves beside one point of a baseline, on one model and dtype."""

    figure: str
    rival: Row
    measured: float | None
    """Our bits at a level we really store; None when no level of ours is as good."""
    interpolated: float | None
    """Our bits along our own rate curve."""

    @property
    def measured_ratio(self) -> float | None:
        return None if self.measured is None else self.measured / self.rival.bits

    @property
    def interpolated_ratio(self) -> float | None:
        return None if self.interpolated is None else self.interpolated / self.rival.bits


def comparisons(rows: Sequence[Row], scheme: str = OURS) -> list[Comparison]:
    """Every rival level beside the curve of our `scheme` on the same model and dtype."""
    return [
        Comparison(
            figure,
            rival,
            measured_bits(curve, rival.point),
            interpolated_bits(curve, rival.point),
        )
        for rival, curve in _facing(rows, scheme)
        for figure, is_meant in RIVALS.items()
        if is_meant(rival)
    ]


def worst_ratio(
    found: Sequence[Comparison], figure: str, ratio: Callable[[Comparison], float | None]
) -> float | None:
    """None if there is no such rival or we match it nowhere: then nothing can be claimed."""
    ratios = [ratio(each) for each in found if each.figure == figure]
    known = [each for each in ratios if each is not None]
    return max(known) if known and len(known) == len(ratios) else None


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """All of them, with unit "x". One that cannot be claimed is left out."""
    found = comparisons(rows)
    claims = {
        "near_lossless_ratio": near_lossless_ratio(rows, OURS),
        "near_lossless_ratio_profile": near_lossless_ratio(rows, PROFILED),
    }
    for figure in RIVALS:
        claims[figure] = worst_ratio(found, figure, lambda each: each.measured_ratio)
        claims[f"{figure}_on_curve"] = worst_ratio(
            found, figure, lambda each: each.interpolated_ratio
        )
    return {name: value for name, value in claims.items() if value is not None}


def near_lossless_ratio(rows: Sequence[Row], scheme: str = OURS) -> float | None:
    """16 bits over those of our smallest near-lossless level, on the worst model and dtype."""
    ratios: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.scheme != scheme or row.kl is None or row.top1 is None:
            continue
        is_near = row.kl <= NEAR_LOSSLESS_KL and row.top1 >= NEAR_LOSSLESS_TOP1
        place = (row.model, row.dtype)
        ratios[place] = max(ratios.get(place, 0.0), 16 / row.bits if is_near else 0.0)
    return min(ratios.values(), default=None)


def _facing(rows: Sequence[Row], scheme: str) -> Iterator[tuple[Row, list[Point]]]:
    for rival in rows:
        if rival.scheme.startswith(OURS):
            continue
        curve = [
            row.point
            for row in rows
            if row.scheme == scheme and (row.model, row.dtype) == (rival.model, rival.dtype)
        ]
        if curve:
            yield rival, curve

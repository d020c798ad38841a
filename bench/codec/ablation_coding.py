"""Quantizers and tables on what the codec quantizes: the other half of bench/codec/ablation.py.

Values come as tiles [256, channels] in units of the tile's deviation. Every channel of a tile has a
class, its deviation in quarter octaves of the step, and entropies are those of one static table for
each class, made from the values: any quantizer gets its best tables, and the centroid of each cell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Cells = NDArray[np.int64]

DISTORTIONS = (0.1, 0.03, 0.01)
PLANES = 3
"""Of an embedded stream."""
STEP = 1.0
"""Of plane 0, in deviations: about what the codec takes."""
LOWEST, HIGHEST = -2, 3
"""Classes that have tables: a channel enters in the first plane where it has one."""
ESCAPE, ESCAPE_BITS = 14, 16
_TABLES = Path(__file__).resolve().parents[2] / "codec" / "progressive" / "tables.cc"

QUANTIZERS: dict[str, Callable[[Floats], Floats]] = {
    "midrise": np.floor,
    "midtread": np.rint,
    "dead zone": np.trunc,
}
"""Cells from n to n + 1; around n; and as midrise, but with one cell from -1 to 1."""


def classes(rows: Floats, step: float) -> Cells:
    """Of each channel."""
    deviations = np.sqrt((rows**2).mean(axis=0)) / step
    return np.rint(4 * np.log2(np.maximum(deviations, 2.0**-12))).astype(np.int64)


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """Of all that was counted."""
    seen = counts[counts > 0].astype(np.float64)
    return float((seen * np.log2(seen.sum() / seen)).sum())


def numbered(keys: Cells, cells: Cells) -> tuple[Cells, int]:
    """A number for each pair of key and cell, and how many there may be of each key."""
    width = int(cells.max() - cells.min()) + 1
    return (keys - keys.min()) * width + cells - cells.min(), width


def class_bits(keys: Cells, cells: Cells) -> float:
    """Bits of cells under one static table for each key."""
    if not cells.size:
        return 0.0
    numbers, width = numbered(keys, cells)
    counts = np.bincount(numbers, minlength=-(-int(numbers.max() + 1) // width) * width)
    return sum(map(entropy_bits, counts.reshape(-1, width)))


def squared_error(keys: Cells, cells: Cells, values: Floats) -> float:
    """Of reconstructing each cell at the mean of its values with the same key."""
    numbers, _ = numbered(keys, cells)
    counts = np.bincount(numbers)
    sums = np.bincount(numbers, values)
    return float((values**2).sum() - (sums[counts > 0] ** 2 / counts[counts > 0]).sum())


class Sample:
    """All tiles in one row of values."""

    def __init__(self, tiles: Sequence[Floats]) -> None:
        self.tiles = tiles
        self.values = np.concatenate([rows.ravel() for rows in tiles])

    def keys(self, step: float) -> Cells:
        """The class of each value's channel."""
        return np.concatenate(
            [np.broadcast_to(classes(rows, step), rows.shape).ravel() for rows in self.tiles]
        )

    def coded(self, name: str, step: float, planes: int) -> tuple[float, float]:
        """Bits per value and mean squared error of a first plane and `planes` - 1 more, each with
        half the step of the one before, the last one with `step`.
        """
        bits = 0.0
        known = np.zeros(self.values.size, bool)
        for plane in range(planes - 1, -1, -1):
            keys = self.keys(step * 2**plane)
            cells = QUANTIZERS[name](self.values / (step * 2**plane)).astype(np.int64)
            # What has a cell of its own is split in two by each plane, which takes about a bit.
            # Midrise has one from the first plane on that is worth it: until then the mean will do.
            worth = keys >= LOWEST if name == "midrise" else np.ones(keys.size, bool)
            fresh = worth & ~known
            bits += class_bits(keys[fresh], cells[fresh]) + np.count_nonzero(known)
            known = known | (worth if name == "midrise" else cells != 0)
        error = squared_error(keys[worth], cells[worth], self.values[worth])
        error += float((self.values[~worth] ** 2).sum())
        return bits / self.values.size, error / self.values.size

    def bits_at(self, name: str, distortion: float, planes: int) -> float:
        """By bisection over the step."""
        low, high = 0.01, 8.0
        for _ in range(12):
            step = math.sqrt(low * high)
            bits, error = self.coded(name, step, planes)
            low, high = (low, step) if error > distortion else (step, high)
        return bits


def print_quantizers(tiles: Sequence[Floats]) -> None:
    sample = Sample(tiles)
    heads = " | ".join(f"{d}, one plane | {PLANES} planes" for d in DISTORTIONS)
    print(f"\n| quantizer, distortion | {heads} |\n|{'---|' * (1 + 2 * len(DISTORTIONS))}")
    for name in QUANTIZERS:
        # Cells of midtread do not split into whole cells.
        counts = (1,) if name == "midtread" else (1, PLANES)
        cells = [
            f"{sample.bits_at(name, distortion, planes):.2f}" if planes in counts else ""
            for distortion in DISTORTIONS
            for planes in (1, PLANES)
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def our_tables() -> Floats:
    """The six tables of the format, as probabilities of symbols 0 to 14."""
    found = re.findall(r"^    \{([\d, ]+)\},$", _TABLES.read_text(), re.MULTILINE)
    rows = [[int(word) for word in row.split(",")][: ESCAPE + 1] for row in found]
    return np.array([row for row in rows if sum(row) == 128], np.float64) / 128


def model_table(deviation: float, cumulative: Callable[[float], float]) -> Floats:
    """Probabilities of cells -7 to 6 and of all others, for a distribution of deviation 1."""
    edges = np.array([cumulative(n / deviation) for n in range(-7, 8)])
    inside = np.diff(edges)
    return np.maximum(np.append(inside, 1 - inside.sum()), 2.0**-16)


def gauss(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def laplace(x: float) -> float:
    tail = 0.5 * math.exp(-abs(x) * math.sqrt(2))
    return tail if x < 0 else 1 - tail


def table_bits(counts: NDArray[np.int64], probabilities: Floats) -> float:
    """Bits of counted symbols under a table; what it does not have is an escape."""
    probabilities = np.where(probabilities > 0, probabilities, 0)
    has = probabilities > 0
    has[ESCAPE] = False
    escaped = counts[~has].sum()
    coded = float((counts[has] * -np.log2(probabilities[has])).sum())
    return coded + float(escaped) * (ESCAPE_BITS - math.log2(probabilities[ESCAPE]))


def symbol_counts(tiles: Sequence[Floats]) -> list[tuple[int, NDArray[np.int64]]]:
    """Of each channel that enters in plane 0: its table, and how often it has each symbol."""
    counted = []
    for rows in tiles:
        for channel, key in enumerate(classes(rows, STEP)):
            if not LOWEST <= key <= HIGHEST:
                continue
            cells = np.floor(rows[:, channel] / STEP).astype(np.int64)
            symbols = np.where((cells >= -7) & (cells <= 6), cells + 7, ESCAPE)
            counted.append((int(key) - LOWEST, np.bincount(symbols, minlength=ESCAPE + 1)))
    return counted


def print_tables(tiles: Sequence[Floats]) -> None:
    channels = symbol_counts(tiles)
    values = sum(int(counts.sum()) for _, counts in channels)
    per_table = [
        sum((c for t, c in channels if t == table), np.zeros(ESCAPE + 1, np.int64))
        for table in range(HIGHEST - LOWEST + 1)
    ]
    deviations = [2 ** ((table + LOWEST) / 4) for table in range(len(per_table))]
    # 14 frequencies of 7 bits for each channel.
    own = sum(entropy_bits(c) + 14 * 7 for _, c in channels)
    rows = {
        "six tables of 128, as they are": sum(map(table_bits, per_table, our_tables())),
        "six of these symbols, exact": sum(map(entropy_bits, per_table)),
        "one of these symbols, exact": entropy_bits(sum(per_table)),
        "six Gaussian, exact": sum(
            table_bits(c, model_table(d, gauss)) for c, d in zip(per_table, deviations, strict=True)
        ),
        "six Laplacian, exact": sum(
            table_bits(c, model_table(d, laplace))
            for c, d in zip(per_table, deviations, strict=True)
        ),
        "one for each channel of a tile, stored in 98 bits": own,
    }
    print("\n| tables of plane 0 | bits per symbol |\n|---|---|")
    for name, total in rows.items():
        print(f"| {name} | {total / values:.3f} |", flush=True)

"""What follows from the rows that trace_replay prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OURS = "tiering"
LRU = "prefix-lru"
SHEDS = "sheds"


@dataclass(frozen=True)
class Row:
    """One replay: the fields of a line of trace_replay."""

    study: str
    policy: str
    capacity: int
    variant: str
    references: int
    hits: int
    hit_tokens: int
    disk_hits: int
    total_seconds: float
    saved_seconds: float
    disk_writes: int
    disk_bytes_written: int
    mean_error: float

    @property
    def saved_share(self) -> float:
        return self.saved_seconds / self.total_seconds

    @property
    def hit_share(self) -> float:
        return self.hits / self.references

    @property
    def disk_bytes_per_hit(self) -> float:
        return self.disk_bytes_written / self.hits


def better(rows: Sequence[Row]) -> list[Row]:
    """Of each policy at each capacity the variant that saves more."""
    best: dict[tuple[str, int], Row] = {}
    for row in rows:
        known = best.setdefault((row.policy, row.capacity), row)
        if row.saved_seconds > known.saved_seconds:
            best[row.policy, row.capacity] = row
    return list(best.values())


def ratios_to_lru(rows: Sequence[Row]) -> dict[int, float]:
    """Seconds that ours saves over those of prefix-LRU, by capacity."""
    lru = {row.capacity: row.saved_seconds for row in rows if row.policy == LRU}
    return {
        row.capacity: row.saved_seconds / lru[row.capacity] for row in rows if row.policy == OURS
    }


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def dominating(mine: Row, rows: Sequence[Row]) -> list[Row]:
    """Those of the same capacity that save more and err less, or tie in one of the two."""
    return [
        row
        for row in rows
        if row.capacity == mine.capacity
        and row.saved_seconds >= mine.saved_seconds
        and row.mean_error <= mine.mean_error
        and (row.saved_seconds, row.mean_error) != (mine.saved_seconds, mine.mean_error)
    ]

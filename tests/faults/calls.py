"""The calls of a client, as tests/faults/fault_client.cc reports them, and what is said of them."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

KINDS = ("lookup", "load", "publish", "connect")
# What a call may say of a store that is gone, slow, or new and empty. Anything else would be taken
# for a mistake of the caller's, for damage, or for nothing at all.
EXPECTED = frozenset(
    {
        "OK",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "miss:absent",
        "miss:peer_lost",
        "miss:deadline",
        "miss:refused",
    }
)
_ANSWERS = frozenset({"OK", "miss:absent"})


@dataclass(frozen=True)
class Call:
    kind: str
    begin: float  # seconds of the monotonic clock, as all of these
    deadline: float
    end: float
    outcome: str
    bytes: int
    wrong: bool

    @classmethod
    def parse(cls, line: str) -> Call:
        kind, begin, deadline, end, outcome, size, wrong = line.split()
        times = (float(begin), float(deadline), float(end))
        return cls(kind, *times, outcome, int(size), wrong != "0")

    @property
    def late_ms(self) -> float:
        return max(0.0, (self.end - self.deadline) * 1e3)

    @property
    def shows_health(self) -> bool:
        """A store that answers: of a load, with bytes."""
        if self.kind == "load":
            return self.outcome == "OK" and self.bytes > 0
        return self.outcome in _ANSWERS


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that so large a share does not exceed; 0 when there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


@dataclass
class Lateness:
    """How long after its deadline each call ended, in ms: of those that did not end before."""

    calls: int = 0
    late_ms: array[float] = field(default_factory=lambda: array("d"))

    def add(self, call: Call) -> None:
        self.calls += 1
        if call.end >= call.deadline:
            self.late_ms.append(call.late_ms)

    def figures(self) -> dict[str, float]:
        return {
            "calls": self.calls,
            "reached": len(self.late_ms),
            "p50_ms": round(quantile(self.late_ms, 0.5), 3),
            "p99_ms": round(quantile(self.late_ms, 0.99), 3),
            "max_ms": round(max(self.late_ms, default=0.0), 3),
        }


class Tally:
    """What became of all calls. Not thread-safe."""

    def __init__(self) -> None:
        self.lateness = {kind: Lateness() for kind in (*KINDS, "timer")}
        self.outcomes: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()
        self.wrong = 0
        self.longest_close_ms = 0.0

    def add(self, call: Call) -> None:
        if call.kind == "close":
            self.longest_close_ms = max(self.longest_close_ms, call.late_ms)
            return
        self.lateness[call.kind].add(call)
        if call.kind == "timer":
            return
        self.outcomes[call.outcome] += 1
        self.wrong += call.wrong
        if call.outcome not in EXPECTED:
            self.unexpected[f"{call.kind} {call.outcome}"] += 1

    def all_calls(self) -> Lateness:
        total = Lateness()
        for kind in KINDS:
            total.calls += self.lateness[kind].calls
            total.late_ms.extend(self.lateness[kind].late_ms)
        return total

"""What the demo measured: samples in, table and JSON out. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .connector import CHUNK_TOKENS


@dataclass
class Row:
    """One way to the first token, and every time it was taken."""

    title: str
    prompt_tokens: int
    expected_chunks: int = 0
    expected_carrier: str = ""
    ttft_ms: list[float] = field(default_factory=list)
    answers: list[list[int]] = field(default_factory=list)
    loaded_chunks: list[int] = field(default_factory=list)
    bytes_received: list[int] = field(default_factory=list)
    carriers: set[str] = field(default_factory=set)
    text: str = ""
    complaints: list[str] = field(default_factory=list)

    def add(self, answer: dict[str, Any]) -> None:
        """Takes a worker's answer, and notes where it did not do what this row claims."""
        self.ttft_ms.append(answer["ttft_ms"])
        self.answers.append(answer["answer"])
        self.text = self.text or answer["text"]
        prefill = answer.get("prefill")
        if prefill is None:
            return
        self.loaded_chunks.append(prefill["loaded_chunks"])
        self.bytes_received.append(prefill["bytes_received"])
        self.carriers.add(prefill["carrier"])
        if prefill["loaded_chunks"] != self.expected_chunks:
            self.complaints.append(
                f"{self.title}: loaded {prefill['loaded_chunks']} chunks, not "
                f"{self.expected_chunks} ({prefill['shortfall']})"
            )
        if prefill["carrier"] != self.expected_carrier:
            self.complaints.append(f"{self.title}: went over {prefill['carrier']}")

    @property
    def median_ms(self) -> float:
        return statistics.median(self.ttft_ms)

    @property
    def bytes_per_load(self) -> int:
        return max(self.bytes_received, default=0)

    def is_identical_to(self, reference: Row) -> bool:
        """Every answer is the reference's as far as it goes, and one goes as far."""
        longest = max(reference.answers, key=len)
        goes_as_far = max(self.answers, key=len) == longest
        return goes_as_far and all(answer == longest[: len(answer)] for answer in self.answers)


@dataclass(frozen=True)
class Report:
    """All rows of one run; `whole` and `partial` are the references of the rows beside them."""

    whole: Row
    ucx: Row
    grpc: Row
    partial_whole: Row
    partial: Row
    facts: dict[str, Any]

    @property
    def pairs(self) -> Sequence[tuple[Row, Row]]:
        """Each row with the one whose tokens it must yield."""
        return (
            (self.whole, self.whole),
            (self.ucx, self.whole),
            (self.grpc, self.whole),
            (self.partial_whole, self.partial_whole),
            (self.partial, self.partial_whole),
        )

    @property
    def tokens_identical(self) -> bool:
        return all(row.is_identical_to(reference) for row, reference in self.pairs)

    @property
    def complaints(self) -> list[str]:
        """What did not go as claimed; empty after a good run."""
        complaints = [complaint for row, _ in self.pairs for complaint in row.complaints]
        complaints += [
            f"{row.title}: other tokens than {reference.title}"
            for row, reference in self.pairs
            if not row.is_identical_to(reference)
        ]
        return complaints

    def table(self) -> str:
        lines = [
            f"{'time to first token':<34} {self._middle:>9} {'lowest..highest':>19} {'n':>3} "
            f"{'faster':>7} {'loaded':>9}  tokens"
        ]
        for row, reference in self.pairs:
            spread = f"{min(row.ttft_ms):,.0f}..{max(row.ttft_ms):,.0f} ms"
            # Two digits: a few samples on a machine that does other things bear no more.
            ratio = float(f"{reference.median_ms / row.median_ms:.2g}")
            faster = f"{ratio:g} x" if row is not reference else ""
            moved = f"{row.bytes_per_load / 1e6:.1f} MB" if row.bytes_received else ""
            same = "identical" if row.is_identical_to(reference) else "DIFFERENT"
            lines.append(
                f"{row.title:<34} {row.median_ms:>6,.0f} ms {spread:>19} {len(row.ttft_ms):>3} "
                f"{faster:>7} {moved:>9}  {same if row is not reference else 'reference'}"
            )
        return "\n".join([*lines, *self._notes()])

    @property
    def _middle(self) -> str:
        return "median" if len(self.whole.ttft_ms) > 1 else "time"

    def _notes(self) -> list[str]:
        """What the times of the table are, and are not."""
        done, meant = len(self.whole.ttft_ms), self.facts.get("rounds_meant", 0)
        rounds = [f"{done} of {meant} rounds: the machine was busy."] if done < meant else []
        return [
            *rounds,
            "Left out: loading the model, connecting and tokenizing. UCX and gRPC ran within this "
            "machine, so no network is in these times.",
        ]

    def as_json(self) -> dict[str, Any]:
        """The keys that other programs rely on first."""
        return {
            "tokens_identical": self.tokens_identical,
            "carrier": ",".join(sorted(self.ucx.carriers)),
            "prompt_tokens": self.whole.prompt_tokens,
            "ttft_recompute_ms": self.whole.median_ms,
            "ttft_load_ms": self.ucx.median_ms,
            "ttft_load_grpc_ms": self.grpc.median_ms,
            "ttft_partial_ms": self.partial.median_ms,
            "ttft_partial_recompute_ms": self.partial_whole.median_ms,
            "partial_prompt_tokens": self.partial_whole.prompt_tokens,
            "partial_chunks_loaded": min(self.partial.loaded_chunks),
            "bytes_moved": self.ucx.bytes_per_load,
            "chunk_tokens": CHUNK_TOKENS,
            "chunks_loaded": min(self.ucx.loaded_chunks),
            "samples_ms": {row.title: row.ttft_ms for row, _ in self.pairs},
            "complaints": self.complaints,
            **self.facts,
        }

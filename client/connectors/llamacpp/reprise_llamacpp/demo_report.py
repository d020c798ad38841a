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
    expected_level: int | None = None
    expected_tier: str = ""
    ttft_ms: list[float] = field(default_factory=list)
    answers: list[list[int]] = field(default_factory=list)
    loaded_chunks: list[int] = field(default_factory=list)
    bytes_received: list[int] = field(default_factory=list)
    carriers: set[str] = field(default_factory=set)
    tiers: set[str] = field(default_factory=set)
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
        self.tiers.update(answer["tiers"])
        if prefill["loaded_chunks"] != self.expected_chunks:
            self.complaints.append(
                f"{self.title}: loaded {prefill['loaded_chunks']} chunks, not "
                f"{self.expected_chunks} ({prefill['shortfall']})"
            )
        if prefill["carrier"] != self.expected_carrier:
            self.complaints.append(f"{self.title}: went over {prefill['carrier']}")
        if self.expected_level not in (None, prefill["level"]):
            self.complaints.append(f"{self.title}: reached level {prefill['level']}")
        if answer["tiers"] != [self.expected_tier]:
            found = " and ".join(answer["tiers"]) or "no tier"
            self.complaints.append(f"{self.title}: was found in {found}")

    @property
    def tier(self) -> str:
        """Where lookups found it, just before it was loaded."""
        return "+".join(sorted(self.tiers))

    @property
    def median_ms(self) -> float:
        return statistics.median(self.ttft_ms)

    @property
    def bytes_per_load(self) -> int:
        return max(self.bytes_received, default=0)

    @property
    def longest(self) -> list[int]:
        return max(self.answers, key=len)

    def leading_tokens_of(self, reference: Row) -> int:
        """How many tokens of the longest answer come before the first that differs."""
        pairs = enumerate(zip(self.longest, reference.longest, strict=False))
        return next((at for at, (a, b) in pairs if a != b), len(self.longest))

    def is_identical_to(self, reference: Row) -> bool:
        """Every answer is the reference's as far as it goes, and one goes as far."""
        longest = reference.longest
        goes_as_far = self.longest == longest
        return goes_as_far and all(answer == longest[: len(answer)] for answer in self.answers)


@dataclass(frozen=True)
class LevelRow:
    """The prompt loaded at one level over UCX, and what the store holds of it up to there."""

    row: Row
    piece_bytes: int
    values: int
    key_distortion: float
    value_distortion: float

    @property
    def bits_per_value(self) -> float:
        return 8 * self.piece_bytes / self.values

    @property
    def ratio_to_16_bit(self) -> float:
        return 16 / self.bits_per_value

    def as_json(self, reference: Row) -> dict[str, Any]:
        return {
            "level": self.row.expected_level,
            "bits_per_value": self.bits_per_value,
            "piece_bytes": self.piece_bytes,
            "ratio_to_16_bit": self.ratio_to_16_bit,
            "key_distortion": self.key_distortion,
            "value_distortion": self.value_distortion,
            "bytes_moved": self.row.bytes_per_load,
            "ttft_load_ms": self.row.median_ms,
            "samples_ms": self.row.ttft_ms,
            "answer_tokens": len(self.row.longest),
            "tokens_identical": self.row.is_identical_to(reference),
            "leading_tokens_identical": self.row.leading_tokens_of(reference),
        }


@dataclass(frozen=True)
class Report:
    """All rows of one run; `whole` and `partial` are the references of the rows beside them."""

    whole: Row
    ucx: Row
    grpc: Row
    partial_whole: Row
    partial: Row
    nvme: Row
    restarted: Row
    killed: Row
    levels: Sequence[LevelRow]
    """From the lowest to the lossless one, whose row is `ucx`. The others promise no identity."""
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
            (self.nvme, self.whole),
            (self.restarted, self.whole),
            (self.killed, self.whole),
        )

    @property
    def tokens_identical(self) -> bool:
        return all(row.is_identical_to(reference) for row, reference in self.pairs)

    @property
    def complaints(self) -> list[str]:
        """What did not go as claimed; empty after a good run."""
        rows = [row for row, _ in self.pairs]
        rows += [level.row for level in self.levels if level.row is not self.ucx]
        complaints = [complaint for row in rows for complaint in row.complaints]
        complaints += [
            f"{row.title}: other tokens than {reference.title}"
            for row, reference in self.pairs
            if not row.is_identical_to(reference)
        ]
        return complaints

    def table(self) -> str:
        lines = [
            f"{'time to first token':<34} {'tier':<5} {self._middle:>9} "
            f"{'lowest..highest':>19} {'n':>3} "
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
                f"{row.title:<34} {row.tier:<5} {row.median_ms:>6,.0f} ms {spread:>19} "
                f"{len(row.ttft_ms):>3} "
                f"{faster:>7} {moved:>9}  {same if row is not reference else 'reference'}"
            )
        return "\n".join([*lines, *self._notes()])

    @property
    def _middle(self) -> str:
        return "median" if len(self.whole.ttft_ms) > 1 else "time"

    def _notes(self) -> list[str]:
        """What the times of the table are, and are not."""
        done, meant = len(self.whole.ttft_ms), self.facts.get("rounds_meant", 0)
        fewer = f"{done} of {meant} rounds: more would have taken over a minute."
        return [
            *([fewer] if done < meant else []),
            "Left out: loading the model, connecting and tokenizing. UCX and gRPC ran within this "
            "machine, so no network is in these times.",
        ]

    def level_table(self) -> str:
        lines = [
            f"{'level':<6} {'bits/value':>10} {'pieces':>9} {'x smaller':>9} {'lost of K':>10} "
            f"{'of V':>7} {'moved':>9} {'first token':>12}  tokens"
        ]
        for level in self.levels:
            row = level.row
            same = f"first {row.leading_tokens_of(self.whole)} of {len(row.longest)} identical"
            lines.append(
                f"{row.expected_level:<6} {level.bits_per_value:>10.2f} "
                f"{level.piece_bytes / 1e6:>6.1f} MB {level.ratio_to_16_bit:>9.2f} "
                f"{level.key_distortion:>10.4f} {level.value_distortion:>7.4f} "
                f"{row.bytes_per_load / 1e6:>6.1f} MB {row.median_ms:>9,.0f} ms  "
                f"{'all identical' if row.is_identical_to(self.whole) else same}"
            )
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The keys that other programs rely on first."""
        return {
            "tokens_identical": self.tokens_identical,
            "carrier": ",".join(sorted(self.ucx.carriers)),
            "prompt_tokens": self.whole.prompt_tokens,
            "ttft_recompute_ms": self.whole.median_ms,
            "ttft_load_ms": self.ucx.median_ms,
            "ttft_load_grpc_ms": self.grpc.median_ms,
            "ttft_load_nvme_ms": self.nvme.median_ms,
            "ttft_load_restarted_ms": self.restarted.median_ms,
            "ttft_load_killed_ms": self.killed.median_ms,
            "ttft_partial_ms": self.partial.median_ms,
            "ttft_partial_recompute_ms": self.partial_whole.median_ms,
            "partial_prompt_tokens": self.partial_whole.prompt_tokens,
            "partial_chunks_loaded": min(self.partial.loaded_chunks),
            "bytes_moved": self.ucx.bytes_per_load,
            "chunk_tokens": CHUNK_TOKENS,
            "chunks_loaded": min(self.ucx.loaded_chunks),
            "levels": [level.as_json(self.whole) for level in self.levels],
            "tiers": {row.title: row.tier for row, _ in self.pairs if row.tier},
            "samples_ms": {row.title: row.ttft_ms for row, _ in self.pairs},
            "complaints": self.complaints,
            **self.facts,
        }

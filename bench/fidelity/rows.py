"""One row per model, dtype, scheme and level: everything that was measured about it.

Rows are what tables, plots and ratio figures are made from; they are kept as JSON so that these can
be made again without measuring again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.fidelity.rates import Point
from bench.fidelity.score import LevelScore

KINDS = ("k", "v")

OURS = "Reprise"
"""Names of our own schemes begin with this word; this alone is the codec without a profile."""
PROFILED = "Reprise with profile"


@dataclass(frozen=True)
class Row:
    """Errors are relative L2 errors of the attention output. What was not measured is None."""

    model: str
    dtype: str
    scheme: str
    level: str
    lossless: bool
    bits: float
    k_bits: float
    v_bits: float | None
    """None where all layers are latent."""
    mean_error: float
    worst_error: float
    worst_layer: int
    kl: float | None = None
    top1: float | None = None
    scored_tokens: int | None = None
    lookup: float | None = None

    @property
    def name(self) -> str:
        return f"{self.scheme} {self.level}".strip()

    @property
    def point(self) -> Point:
        return Point(self.bits, self.mean_error, self.worst_error)


def row(model: str, dtype: str, texts: Sequence[LevelScore]) -> Row:
    """One level's scores on several texts as one row: bits over all values, each layer's error
    averaged over the texts, then mean and worst over the layers.
    """
    layers = np.mean([text.layer_errors for text in texts], axis=0)
    bits, values = (
        {kind: sum(getattr(text, field)[kind] for text in texts) for kind in KINDS}
        for field in ("bits", "counts")
    )
    first = texts[0]
    return Row(
        model=model,
        dtype=dtype,
        scheme=first.scheme,
        level=first.level,
        lossless=first.lossless,
        bits=sum(bits.values()) / sum(values.values()),
        k_bits=bits["k"] / values["k"],
        v_bits=bits["v"] / values["v"] if values["v"] else None,
        mean_error=float(layers.mean()),
        worst_error=float(layers.max()),
        worst_layer=int(layers.argmax()),
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(json.dumps(asdict(each)) for each in rows) + "\n]\n")


def read_rows(path: Path) -> list[Row]:
    return [Row(**fields) for fields in json.loads(path.read_text())]


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The new rows, then the old ones of whatever model, dtype and scheme is not among them."""
    replaced = {(row.model, row.dtype, row.scheme) for row in new}
    kept = [row for row in old if (row.model, row.dtype, row.scheme) not in replaced]
    return [*new, *kept]

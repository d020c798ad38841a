"""What every scheme that is scored offers: one layer's K or V in, reconstructions and bits out.

A scheme never sees two layers at once and never a neighbouring chunk: what it stores for a chunk of
256 tokens must decode alone, as a store's pieces do. Bits are everything the decoder needs beside
what the namespace says (model, layer, shape): codes, scales, zeros, tables, lengths. What was
learnt offline from other text costs nothing, as in the papers that do so; `fit` and `learn` get
only that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.kv.dumps import DumpText
from bench.kv.geometry import Geometry, Rope
from bench.kv.rounding import rounded, widened

CHUNK_TOKENS = 256

Kind = Literal["k", "v"]
Dtype = Literal["bf16", "fp16"]


@dataclass(frozen=True)
class Site:
    """Where a tensor stands in its model. `rope` is what turned this layer's K, None for V."""

    kind: Kind
    layer: int
    layers: int
    dtype: Dtype
    rope: Rope | None = None
    first_position: int = 0

    def at(self, token: int) -> Site:
        """The same place, for a tensor that begins `token` tokens later."""
        position = self.first_position + token
        return Site(self.kind, self.layer, self.layers, self.dtype, self.rope, position)


def site(geometry: Geometry, layer: int, kind: Kind, dtype: Dtype, first_position: int = 0) -> Site:
    """The place of a tensor of a model or a dump. A latent row is left as it is: its RoPE channels
    are its last ones, and no baseline knows of them.
    """
    where = geometry.layers[layer]
    rope = where.rope if kind == "k" and where.kind != "latent" else None
    return Site(kind, layer, len(geometry.layers), dtype, rope, first_position)


@dataclass(frozen=True)
class Result:
    """A decoded tensor, float32 [tokens, kv_heads, head_dim], and the bits that were stored."""

    reconstruction: np.ndarray
    bits: float


# What `fit` learns from: one tensor of text that is not scored, and where it stands.
Calibration = Sequence[tuple[Site, np.ndarray]]


class Scheme(ABC):
    """A codec under test. `levels` names what one encode yields, best last; fixed-rate schemes have
    one level, an embedded stream several.
    """

    name: str
    levels: tuple[str, ...] = ("",)
    lossless: bool = False

    def fit(self, calibration: Calibration) -> None:  # noqa: B027 - most schemes learn nothing
        """Learns what the paper learns offline."""

    def learn(self, texts: Sequence[DumpText], dtype: Dtype) -> None:  # noqa: B027 - as above
        """Learns what takes more than K and V, from the same texts. Called after `fit`."""

    @abstractmethod
    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        """One result per level for at most CHUNK_TOKENS tokens, [tokens, kv_heads, head_dim]."""

    def encode_decode(self, x: np.ndarray, site: Site) -> list[Result]:
        """One result per level for any number of tokens, chunk by chunk."""
        starts = range(0, len(x), CHUNK_TOKENS)
        chunks = [self.code_chunk(x[at : at + CHUNK_TOKENS], site.at(at)) for at in starts]
        return [_joined(results) for results in zip(*chunks, strict=True)]


def _joined(results: Iterable[Result]) -> Result:
    parts = list(results)
    whole = np.concatenate([part.reconstruction for part in parts])
    return Result(whole, sum(part.bits for part in parts))


def round16(x: np.ndarray, dtype: Dtype) -> np.ndarray:
    """What an engine gets: float32 that a 16-bit type holds exactly."""
    return widened(rounded(x, dtype))


def fp16(x: np.ndarray) -> np.ndarray:
    """A stored 16-bit scale or zero, as the decoder reads it back."""
    return np.clip(x, -65504, 65504).astype(np.float16).astype(np.float32)

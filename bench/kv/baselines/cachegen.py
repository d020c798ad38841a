"""CacheGen as published (Liu et al., SIGCOMM 2024, arXiv 2310.07240).

Tokens go in groups of ten. The first is the anchor, in 8 bits; the others are deltas to the decoded
anchor, quantized with bins that widen over three layer groups (0.5, 1 and 1.5 by default), and
everything is arithmetic-coded under one distribution per (layer, channel), learnt offline.

The paper gives the bins without a unit. Two readings are scored as rivals of equal standing: the
standard deviation of a layer's deltas, learnt offline, and the tensor's own numbers. A third, the
standard deviation of each channel, is worse at equal error on both models here (SmolLM2-135M,
x1: 0.45 mean error at 2.73 bits against 0.40 at 2.61) and was dropped.
Entropy under the learnt tables is what is counted: an arithmetic coder reaches it within 0.1 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.kv.baselines.scheme import Calibration, Result, Scheme, Site, fp16

GROUP = 10
BINS = (0.5, 1.0, 1.5)
ANCHOR_REACH = 127  # anchors run from -127 to 127
DELTA_REACH = 511  # and deltas as far, with one more symbol that is the escape
ESCAPE_BITS = 16  # what follows an escape
STREAM_END_BITS = 32  # an arithmetic coder's last word, per layer and K or V of a chunk
FLOOR = (
    2.0**-20
)  # the least probability: a 16-bit table would charge a rival 0.02 bit for its tails

Unit = Literal["layer", "absolute"]


@dataclass(frozen=True)
class _Learnt:
    """Offline facts of one layer's K or V: the bin width, and costs in bits [channels, symbols]."""

    width: np.float32
    delta_cost: np.ndarray
    anchor_cost: np.ndarray


class CacheGen(Scheme):
    """One encoding level: the paper's bins times `scale`."""

    def __init__(self, scale: float, unit: Unit = "layer") -> None:
        self.name = f"CacheGen x{scale:g}" + (" absolute" if unit == "absolute" else "")
        self._scale = scale
        self._unit = unit
        self._learnt: dict[tuple[str, int], _Learnt] = {}

    def fit(self, calibration: Calibration) -> None:
        tensors: dict[tuple[str, int], list[np.ndarray]] = {}
        layers = 1
        for site, x in calibration:
            tensors.setdefault((site.kind, site.layer), []).append(x.reshape(len(x), -1))
            layers = site.layers
        for (kind, layer), parts in tensors.items():
            self._learnt[kind, layer] = self._learn(parts, layer, layers)

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        rows = x.reshape(len(x), -1)
        learnt = self._learnt[site.kind, site.layer]
        codes, scale = _anchor_codes(rows[::GROUP])
        anchors = np.repeat(codes * scale, GROUP, axis=0)[: len(rows)]
        symbols = np.rint((rows - anchors) / learnt.width).astype(np.int64)
        decoded = (anchors + symbols * learnt.width).astype(np.float32)
        followers = np.arange(len(rows)) % GROUP != 0
        decoded[::GROUP] = anchors[::GROUP]
        bits = _cost(symbols[followers], learnt.delta_cost)
        bits += _cost(codes.astype(np.int64), learnt.anchor_cost)
        bits += 16 * len(codes) + STREAM_END_BITS
        return [Result(decoded.reshape(x.shape), float(bits))]

    def _learn(self, parts: list[np.ndarray], layer: int, layers: int) -> _Learnt:
        deltas = np.concatenate([_deltas(rows) for rows in parts])
        sigma = deltas.std(dtype=np.float64) if self._unit == "layer" else 1.0
        bin_width = self._scale * BINS[min(3 * layer // layers, 2)]
        width = np.float32(max(bin_width * sigma, 1e-6))
        symbols = np.rint(deltas / width).astype(np.int64)
        # Every token might have been an anchor: ten times the samples for the same distribution.
        codes, _ = _anchor_codes(np.concatenate(parts))
        return _Learnt(
            width, _table(symbols, DELTA_REACH), _table(codes.astype(np.int64), ANCHOR_REACH)
        )


def _anchor_codes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8-bit codes with one fp16 scale per token: the paper's vector-wise quantization."""
    scale = fp16(np.abs(rows).max(axis=1, keepdims=True) / ANCHOR_REACH)
    codes = np.rint(rows / np.where(scale > 0, scale, 1))
    return np.clip(codes, -ANCHOR_REACH, ANCHOR_REACH), scale


def _deltas(rows: np.ndarray) -> np.ndarray:
    """What the followers of each group differ by from their decoded anchor."""
    codes, scale = _anchor_codes(rows[::GROUP])
    anchors = np.repeat(codes * scale, GROUP, axis=0)[: len(rows)]
    return (rows - anchors)[np.arange(len(rows)) % GROUP != 0]


def _table(symbols: np.ndarray, reach: int) -> np.ndarray:
    """Costs in bits, [channels, symbols and the escape], from samples [count, channels].

    A histogram of few samples is ragged: it is smoothed by a Gaussian kernel whose width follows
    Silverman's rule and vanishes for the peaked histograms of wide bins.
    """
    count, channels = symbols.shape
    cells = 2 * reach + 2
    shifted = np.where(np.abs(symbols) > reach, cells - 1, symbols + reach)
    flat = (shifted + np.arange(channels) * cells).ravel()
    counts = np.bincount(flat, minlength=channels * cells).reshape(channels, cells)
    spread = np.minimum(np.clip(symbols, -reach, reach).std(axis=0), reach)
    density = _smoothed(counts[:, :-1], 1.06 * spread * count**-0.2)
    density = np.concatenate([density, counts[:, -1:] + 0.5], axis=1)
    share = density / density.sum(axis=1, keepdims=True)
    share = np.maximum(share, FLOOR)
    return -np.log2(share / share.sum(axis=1, keepdims=True))


def _smoothed(counts: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Each row convolved with a Gaussian of its own width in symbols, by FFT."""
    length = 2 * counts.shape[1]
    frequency = np.fft.rfftfreq(length)
    kernel = np.exp(-2 * (np.pi * frequency * widths[:, None]) ** 2)
    padded = np.fft.irfft(np.fft.rfft(counts, length) * kernel, length)
    return np.maximum(padded[:, : counts.shape[1]], 0)


def _cost(symbols: np.ndarray, table: np.ndarray) -> float:
    """Bits of symbols [count, channels] under the tables, escapes with what follows them."""
    reach = table.shape[1] // 2 - 1
    escaped = np.abs(symbols) > reach
    shifted = np.where(escaped, table.shape[1] - 1, symbols + reach)
    bits = np.take_along_axis(table, shifted.T, axis=1).sum()
    return float(bits) + ESCAPE_BITS * int(escaped.sum())

"""CacheGen as LMCache ships it, which is not what the paper describes: no anchors and no deltas.

Each (layer, token) is scaled by its absolute maximum to 31 levels in early layers and 15 in later
ones, and every chunk carries its own tables: per (layer, channel) 33 cumulative counts of 16 bits
and the 32-bit length of that channel's stream, beside one 16-bit maximum per token.
"""

from __future__ import annotations

import numpy as np

from bench.kv.baselines.scheme import Kind, Result, Scheme, Site, round16

TABLE_BITS = 33 * 16
LENGTH_BITS = 32
FINE_LAYERS: dict[Kind, int] = {"k": 10, "v": 2}  # LMCache's default for an unknown model
FINE_BINS, COARSE_BINS = 32, 16


class CacheGenShipped(Scheme):
    """LMCache's serializer on chunks of 256 tokens, its default; `bins` are those of its
    configuration. Streams are counted at their entropy, rounded up to bytes; the pickle container
    is not counted.
    """

    name = "CacheGen shipped"

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        rows = x.reshape(len(x), -1)
        bins = FINE_BINS if site.layer < FINE_LAYERS[site.kind] else COARSE_BINS
        top = bins // 2 - 1
        largest = round16(np.abs(rows).max(axis=1, keepdims=True), site.dtype)
        codes = np.rint(rows * (top / np.where(largest > 0, largest, 1)))
        decoded = (codes / top * largest).astype(np.float32)
        streams = np.ceil(_entropy_bits(codes.astype(np.int64) + top, bins) / 8) * 8
        bits = streams.sum() + (TABLE_BITS + LENGTH_BITS) * rows.shape[1] + 16 * len(rows)
        return [Result(decoded.reshape(x.shape), float(bits))]


def _entropy_bits(symbols: np.ndarray, bins: int) -> np.ndarray:
    """Per channel, the bits of its symbols under their own histogram."""
    count, channels = symbols.shape
    flat = (symbols + np.arange(channels) * bins).ravel()
    counts = np.bincount(flat, minlength=channels * bins).reshape(channels, bins)
    share = np.maximum(counts, 1) / count
    return -(counts * np.log2(share)).sum(axis=1)

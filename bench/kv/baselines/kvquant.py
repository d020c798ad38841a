"""KVQuant (Hooper et al., arXiv 2401.18079): non-uniform codes, K before RoPE, outliers apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.kv.baselines.scheme import Calibration, Result, Scheme, Site, fp16, round16
from bench.kv.baselines.turboquant import lloyd_max
from bench.kv.rope import rotate


@dataclass(frozen=True)
class _Learnt:
    """Offline facts of one layer's K or V. `offset` and `reach` are per channel, for K only."""

    centroids: np.ndarray
    offset: np.ndarray | None = None
    reach: np.ndarray | None = None


class KvQuant(Scheme):
    """K per channel and before RoPE, with ranges learnt offline; V per token, with ranges found
    online (fp16 offset and reach per token). Both are scaled to [-1, 1] and get one codebook per
    layer, by k-means over calibration text without the paper's Fisher weights, which need gradients
    of the model. `outliers` is the share of values kept sparse in 16 bits each, with an index and a
    count per token; the ranges cover the rest. The first token of a sequence stays in 16 bits, as
    the paper's attention-sink rule says.

    Ranges and codebooks are learnt offline and cost nothing. With neither heads nor channels to
    spare in small models an index takes 8 bits up to 256 channels, else 16.
    """

    def __init__(self, bits: int, outliers: float = 0.01) -> None:
        self.name = f"KVQuant {bits} bit" + (f" + {outliers:.0%}" if outliers else "")
        self._bits = bits
        self._outliers = outliers
        self._learnt: dict[tuple[str, int], _Learnt] = {}

    def fit(self, calibration: Calibration) -> None:
        tensors: dict[tuple[str, int], list[np.ndarray]] = {}
        for site, x in calibration:
            rows = _before_rope(x, site).reshape(len(x), -1)
            # The first token is stored apart and would only widen the ranges.
            rows = rows[1:] if site.first_position == 0 else rows
            tensors.setdefault((site.kind, site.layer), []).append(rows)
        for (kind, layer), parts in tensors.items():
            rows = np.concatenate(parts)
            learn = self._learn_keys if kind == "k" else self._learn_values
            self._learnt[kind, layer] = learn(rows)

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        rows = _before_rope(x, site).reshape(len(x), -1)
        learnt = self._learnt[site.kind, site.layer]
        if site.kind == "k":
            decoded, sparse = _coded(rows, learnt.offset, learnt.reach, learnt.centroids)
            bits = self._bits * rows.size
        else:
            offset, reach = self._token_ranges(rows)
            decoded, sparse = _coded(rows, fp16(offset), fp16(reach), learnt.centroids)
            bits = self._bits * rows.size + 2 * 16 * len(rows)
        if self._outliers:
            decoded = np.where(sparse, round16(rows, "fp16"), decoded)
            bits += int(sparse.sum()) * (16 + _index_bits(rows.shape[1])) + 8 * len(rows)
        decoded = decoded.reshape(x.shape)
        if site.kind == "k" and site.rope:
            decoded = rotate(decoded, site.rope, site.first_position)
        if site.first_position == 0:
            decoded[0] = x[0]
            bits += (16 - self._bits) * rows.shape[1]
        return [Result(decoded, float(bits))]

    def _learn_keys(self, rows: np.ndarray) -> _Learnt:
        tail = 100 * self._outliers / 2
        low, high = np.percentile(rows, [tail, 100 - tail], axis=0).astype(np.float32)
        offset, reach = (high + low) / 2, np.maximum((high - low) / 2, 1e-12)
        return _Learnt(self._codebook((rows - offset) / reach), offset, reach)

    def _learn_values(self, rows: np.ndarray) -> _Learnt:
        offset, reach = self._token_ranges(rows)
        return _Learnt(self._codebook((rows - offset) / reach))

    def _codebook(self, scaled: np.ndarray) -> np.ndarray:
        counts, edges = np.histogram(scaled, bins=8192, range=(-1, 1))
        centres = (edges[1:] + edges[:-1]) / 2
        return lloyd_max(centres, counts.astype(np.float64), 2**self._bits).astype(np.float32)

    def _token_ranges(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half width, [tokens, 1], of what is left of a token without its outliers."""
        apart = round(self._outliers * rows.shape[1] / 2)
        ordered = np.sort(rows, axis=1)
        low, high = ordered[:, apart, None], ordered[:, rows.shape[1] - 1 - apart, None]
        return (high + low) / 2, np.maximum((high - low) / 2, 1e-4)


def _index_bits(channels: int) -> int:
    return 8 if channels <= 256 else 16


def _before_rope(x: np.ndarray, site: Site) -> np.ndarray:
    if site.kind == "v" or site.rope is None:
        return x
    return rotate(x, site.rope, site.first_position, inverse=True)


def _coded(
    rows: np.ndarray, offset: np.ndarray, reach: np.ndarray, centroids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Decoded rows, and which values lie outside their range."""
    scaled = (rows - offset) / reach
    codes = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, scaled)
    # A stored fp16 range may cut its own end off by a rounding error: that is no outlier.
    return centroids[codes] * reach + offset, np.abs(scaled) > 1.001

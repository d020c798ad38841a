"""TurboQuant (Zandieh et al., arXiv 2504.19874), the variant made for mean squared error."""

from __future__ import annotations

from functools import cache

import numpy as np

from bench.kv.baselines.scheme import Result, Scheme, Site, fp16


class TurboQuant(Scheme):
    """Each head's vector is a norm (fp16, counted) and a direction. The direction is turned by one
    random rotation, after which every coordinate has the same known density, and is quantized with
    the Lloyd-Max codebook of that density. The rotation is a seed and the codebook a formula:
    neither costs bits. The inner-product variant with its extra sign sketch is left out; its
    attention error at equal bits is higher.
    """

    def __init__(self, bits: int, seed: int = 2504) -> None:
        self.name = f"TurboQuant {bits} bit"
        self._bits = bits
        self._seed = seed

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        dim = x.shape[-1]
        norm = fp16(np.linalg.norm(x, axis=-1, keepdims=True))
        turn = rotation(dim, self._seed)
        turned = (x / np.where(norm > 0, norm, 1)) @ turn
        centroids = codebook(dim, self._bits)
        codes = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, turned)
        decoded = (centroids[codes] @ turn.T) * norm
        return [Result(decoded, float(self._bits * x.size + 16 * norm.size))]


@cache
def rotation(dim: int, seed: int) -> np.ndarray:
    """A uniformly random orthogonal matrix: QR of a Gaussian one, signs fixed (Mezzadri 2007)."""
    gaussian = np.random.default_rng(seed).standard_normal((dim, dim))
    q, r = np.linalg.qr(gaussian)
    return (q * np.sign(np.diag(r))).astype(np.float32)


@cache
def codebook(dim: int, bits: int) -> np.ndarray:
    """Lloyd-Max centroids of one coordinate of a uniformly random unit vector, whose density is
    proportional to (1 - x^2)^((dim - 3) / 2), found on a fine grid.
    """
    # Eleven standard deviations hold all but a vanishing part of the density at any dimension.
    reach = min(1.0, 11 / np.sqrt(dim))
    x = np.linspace(-reach, reach, 400_001)
    density = np.maximum(1 - x * x, 0) ** ((dim - 3) / 2)
    return lloyd_max(x, density, 2**bits).astype(np.float32)


def lloyd_max(x: np.ndarray, weight: np.ndarray, count: int, rounds: int = 2000) -> np.ndarray:
    """`count` centroids of the weighted points x (sorted), by Lloyd's iteration from quantiles."""
    mass = np.concatenate([[0.0], np.cumsum(weight)])
    moment = np.concatenate([[0.0], np.cumsum(weight * x)])
    # The cube root of the density spreads the first guess as the optimal quantizer does (Panter
    # and Dite 1951).
    spread = np.cumsum(np.cbrt(weight))
    quantiles = (np.arange(count) + 0.5) / count * spread[-1]
    centroids = x[np.minimum(np.searchsorted(spread, quantiles), len(x) - 1)]
    for _ in range(rounds):
        edges = np.searchsorted(x, (centroids[1:] + centroids[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(x)]])
        held = np.diff(mass[edges])
        moved = np.where(held > 0, np.diff(moment[edges]) / np.maximum(held, 1e-300), centroids)
        if np.abs(moved - centroids).max() < 1e-9 * (x[-1] - x[0]):
            return moved
        centroids = moved
    return centroids

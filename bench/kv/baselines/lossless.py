"""zstd on the 16-bit words of a tensor: what a store without a codec of its own can do."""

from __future__ import annotations

import numpy as np
import zstandard

from bench.kv.baselines.scheme import Result, Scheme, Site
from bench.kv.rounding import rounded


class Zstd(Scheme):
    """zstd at one level, on the words as they lie in memory, or on all low bytes followed by all
    high bytes, which shows how much of the gap to a real codec that known trick closes.
    """

    lossless = True

    def __init__(self, level: int, split_bytes: bool = False) -> None:
        self.name = f"zstd -{level}" + (", split bytes" if split_bytes else "")
        self._split = split_bytes
        self._compressor = zstandard.ZstdCompressor(level=level)

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        words = rounded(x, site.dtype)
        data = words.reshape(-1, 1).view(np.uint8).T.tobytes() if self._split else words.tobytes()
        return [Result(x, 8.0 * len(self._compressor.compress(data)))]


class Plain16(Scheme):
    """The tensor as it is: 16 bits, no error."""

    lossless = True
    name = "16 bit"

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        return [Result(x, 16.0 * x.size)]

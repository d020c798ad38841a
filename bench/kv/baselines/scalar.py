"""Fixed-rate uniform quantizers: int8 per token, fp8, and KIVI."""

from __future__ import annotations

import numpy as np

from bench.kv.baselines.scheme import Result, Scheme, Site, fp16


class Int8PerToken(Scheme):
    """Symmetric int8, one fp16 scale per token, layer and K or V (the absolute maximum over heads
    and channels): 8 + 16 / channels bits.
    """

    name = "int8 per token"

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        scale = fp16(np.abs(x).max(axis=(1, 2), keepdims=True) / 127)
        codes = np.clip(np.rint(x / np.where(scale > 0, scale, 1)), -127, 127)
        return [Result(codes * scale, 8.0 * x.size + 16.0 * len(x))]


class Fp8E4M3(Scheme):
    """OCP fp8 e4m3 (no infinities, largest value 448), one fp32 scale per tensor of a chunk."""

    name = "fp8 e4m3"

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        scale = np.float32(max(np.abs(x).max() / 448, 1e-30))
        return [Result(round_e4m3(x / scale) * scale, 8.0 * x.size + 32.0)]


def round_e4m3(x: np.ndarray) -> np.ndarray:
    """The nearest e4m3 value, ties to even: 3 fraction bits, smallest normal exponent -6."""
    _, exponent = np.frexp(x)
    step = np.ldexp(np.float32(1), np.maximum(exponent - 1, -6) - 3)
    return np.clip(np.rint(x / step) * step, -448, 448)


class Kivi(Scheme):
    """KIVI (Liu et al., arXiv 2402.02750): asymmetric uniform codes, K per channel over groups of
    32 tokens, V per token over groups of 32 channels, fp16 scale and zero per group. The paper's
    window of recent tokens kept in fp16 is left out: a stored chunk has no recent tokens.
    """

    GROUP = 32

    def __init__(self, bits: int) -> None:
        self.name = f"KIVI {bits} bit"
        self._bits = bits

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        rows = x.reshape(len(x), -1)
        # Groups run along axis 0 of `lines`.
        lines = rows if site.kind == "k" else rows.T
        out = np.empty_like(lines)
        groups = 0
        whole = len(lines) // self.GROUP * self.GROUP
        for part in (slice(0, whole), slice(whole, len(lines))):
            length = part.stop - part.start
            if length == 0:
                continue
            grouped = lines[part].reshape(-1, min(self.GROUP, length), lines.shape[1])
            out[part] = self._quantized(grouped).reshape(length, -1)
            groups += grouped.shape[0] * grouped.shape[2]
        bits = float(self._bits * x.size + 32 * groups)
        back = out if site.kind == "k" else out.T
        return [Result(np.ascontiguousarray(back).reshape(x.shape), bits)]

    def _quantized(self, groups: np.ndarray) -> np.ndarray:
        """[groups, members, lines], quantized along the members."""
        top = 2**self._bits - 1
        zero = fp16(groups.min(axis=1, keepdims=True))
        scale = fp16((groups.max(axis=1, keepdims=True) - zero) / top)
        codes = np.rint((groups - zero) / np.where(scale > 0, scale, 1))
        return np.clip(codes, 0, top) * scale + zero

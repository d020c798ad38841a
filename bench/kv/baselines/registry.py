"""Every baseline that bench/fidelity scores, by what it is compared for."""

from __future__ import annotations

from bench.kv.baselines.cachegen import CacheGen
from bench.kv.baselines.cachegen_shipped import CacheGenShipped
from bench.kv.baselines.kvquant import KvQuant
from bench.kv.baselines.lossless import Plain16, Zstd
from bench.kv.baselines.scalar import Fp8E4M3, Int8PerToken, Kivi
from bench.kv.baselines.scheme import Scheme
from bench.kv.baselines.turboquant import TurboQuant

# The paper names 0.5, 1 and 1.5 as its default level and scales them for the others.
CACHEGEN_SCALES = (0.25, 0.5, 1.0, 2.0)
TURBOQUANT_BITS = (2, 3, 4, 5, 6)


def lossless_schemes() -> list[Scheme]:
    return [Plain16(), Zstd(1), Zstd(19), Zstd(1, split_bytes=True), Zstd(19, split_bytes=True)]


def lossy_schemes() -> list[Scheme]:
    schemes: list[Scheme] = [Int8PerToken(), Fp8E4M3(), Kivi(4), Kivi(2)]
    schemes += [KvQuant(bits) for bits in (2, 3, 4)]
    schemes += [KvQuant(3, outliers=0)]
    schemes += [TurboQuant(bits) for bits in TURBOQUANT_BITS]
    schemes += [CacheGen(scale) for scale in CACHEGEN_SCALES]
    schemes += [CacheGen(scale, "absolute") for scale in CACHEGEN_SCALES]
    return [*schemes, CacheGenShipped()]


def baselines() -> list[Scheme]:
    """Lossless first, then lossy; every call gives fresh objects, not yet fitted."""
    return [*lossless_schemes(), *lossy_schemes()]

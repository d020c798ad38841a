"""Bytes and goodput of the progressive codec on real KV, beside memcpy and zstd.

Dumps of both models (bench/kv: real models on real texts) are made once, in build/kv. Sizes count
everything that a block stores. Goodput is GB/s (1e9) of 16-bit values of one thread, from memory to
memory over the whole dump, and each round pairs it with a memcpy of the same bytes.

Embedding: each lossy level beside coding the same cells at once, which gives the same values: side
information as stored, cells at the entropy of static tables for each class, made from the cells.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.harness.report import Bench

MODELS = ("smollm2", "gemma3")
DTYPES = ("bf16", "fp16")
TEXTS = ("licence-gpl3", "play-hamlet")
NO_SUCH_INSTRUCTIONS = 3

LOSSY_LEVELS = ((0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 3), (4, 4))
"""The last plane of K and of V that each level has (docs/codec.md)."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="pairs per figure (default 7)")
    parser.add_argument(
        "--dump", type=Path, action="append", help="directories of dumps instead of our models'"
    )


def main(bench: Bench) -> None:
    dumps = bench.options.dump or [_dump(bench.root, model) for model in MODELS]
    worst: dict[str, float] = {}
    for dump in dumps:
        for dtype in DTYPES:
            _sizes(bench, dump, dtype, worst)
    for figure, value in worst.items():
        bench.sample(figure, value, "x")
    costs = [_embedding(bench, dump, dtype) for dump in dumps for dtype in DTYPES]
    bench.sample("embedding_cost_bits", max(costs), "bit/value")
    for sample in _lines(bench, "speed", dumps[0], "bf16", "avx512", bench.options.rounds):
        memcpy = sample["memcpy"]
        bench.pair("decode_3bit_vs_memcpy", sample["decode_3bit"], memcpy, "GB/s")
        again = sample["memcpy_again"]
        bench.pair("decode_lossless_vs_memcpy", sample["decode_lossless"], again, "GB/s")
        bench.pair("encode_vs_memcpy", sample["encode"], again, "GB/s")
        bench.pair("decode_3bit_vs_zstd1", sample["decode_3bit"], sample["zstd1"], "GB/s")
        two, one = sample["decode_3bit_two_threads"], sample["decode_3bit"]
        bench.pair("two_threads", two, one, "GB/s")
    for sample in _lines(bench, "speed", dumps[0], "bf16", "avx2", bench.options.rounds):
        bench.pair("decode_3bit_vs_memcpy_avx2", sample["decode_3bit"], sample["memcpy"], "GB/s")


def _sizes(bench: Bench, dump: Path, dtype: str, worst: dict[str, float]) -> None:
    (size,) = _lines(bench, "sizes", dump, dtype)
    for level, bits in enumerate(size["level_bits"]):
        bench.sample(f"{dump.name}_{dtype}_level{level}", bits, "bit/value")
    lossless = size["level_bits"][-1]
    ratios = {f"lossless_{dtype}": 16, "lossless_vs_zstd19": size["zstd19_bits"]}
    for figure, yardstick in ratios.items():
        worst[figure] = min(worst.get(figure, float("inf")), yardstick / lossless)


def _embedding(bench: Bench, dump: Path, dtype: str) -> float:
    """The worst level's cost in bits per value."""
    (bits,) = _lines(bench, "embedding", dump, dtype)
    values = bits["k_values"] + bits["v_values"]
    worst = 0.0
    for level, (key, value) in enumerate(LOSSY_LEVELS):
        embedded, single = (
            bits[f"k_{kind}"][key] + bits[f"v_{kind}"][value]
            for kind in ("embedded", "single_rate")
        )
        cost = (embedded - single) / values
        bench.sample(f"{dump.name}_{dtype}_level{level}_embedding_cost", cost, "bit/value")
        worst = max(worst, cost)
    return worst


def _lines(bench: Bench, *arguments: object) -> Iterator[dict[str, Any]]:
    command = [str(bench.binaries / "codec_bench"), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode not in (0, NO_SUCH_INSTRUCTIONS):
        raise RuntimeError(f"{' '.join(command)} failed with {process.returncode}")


def _dump(root: Path, model: str) -> Path:
    directory = root / "build" / "kv" / f"bench-{model}"
    if not (directory / "dump.json").exists():
        command = [sys.executable, "-m", "bench.kv", "dump", "--model", model]
        command += ["--out", str(directory), "--tokens", "4096", "--texts", *TEXTS]
        subprocess.run(command, cwd=root, check=True)
    return directory

"""What other choices would have gained or lost on real KV: the tables of docs/codec.md.

    python -m bench.codec.ablation build/kv/bench-smollm2

Prints Markdown. Transforms: bits per value at a distortion of 0.03 of the spread of the tensor as
it is, by reverse water-filling over the variances that each leaves (Cover and Thomas, 10.3.3), for
chunks of 256 tokens of layers spread evenly over the model. Variances of a Haar transform over
tokens are pooled by octave; a delta is taken from the exact token, which flatters it; a KLT is
learnt on the dump's other texts. Then quantizers and tables: bench/codec/ablation_coding.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.codec.ablation_coding import print_quantizers, print_tables
from bench.kv.dumps import DumpText, load
from bench.kv.rope import rotate

Floats = NDArray[np.float64]

CHUNK = 256
DISTORTION = 0.03
LAYERS = 6
CHUNKS = (1, 5, 9, 13)
ANCHORED = 10
"""Tokens of a group whose first one the others are coded against, in CacheGen."""
OVER_CHANNELS = ("as they are", "Hadamard", "KLT")
OVER_TOKENS = ("", "Haar over 8", "Haar over 32", "delta to the token before", "delta to an anchor")
TOKEN_BIAS = 0.66
"""The mean square of a token of V is multiplied by this before its power of two is chosen."""


def rate(variances: Floats, weights: Floats, distortion: float) -> float:
    """Bits per value of independent Gaussians at a mean squared error, by bisection; so much of all
    values has each variance.
    """
    low, high = 1e-12, float(variances.max())
    for _ in range(60):
        level = float(np.sqrt(low * high))
        if (weights * np.minimum(variances, level)).sum() > distortion:
            high = level
        else:
            low = level
    bits = np.maximum(0, 0.5 * np.log2(np.maximum(variances, 1e-12) / low))
    return float((weights * bits).sum())


def haar(size: int) -> Floats:
    """The orthonormal Haar transform: the mean first, then details from coarse to fine."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        details = np.kron(np.eye(len(matrix)), [1, -1])
        matrix = np.vstack([np.kron(matrix, [1, 1]), details]) / np.sqrt(2)
    return matrix


def hadamard(size: int) -> Floats:
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
    return matrix


def variances_over_tokens(rows: Floats, over_tokens: str) -> tuple[Floats, Floats]:
    """Variances, and which share of all values has each; `rows` [256, channels] without means."""
    if over_tokens.startswith("delta"):
        before = np.arange(CHUNK) - 1
        if over_tokens.endswith("anchor"):
            before = np.arange(CHUNK) // ANCHORED * ANCHORED
        first = before == np.arange(CHUNK) if over_tokens.endswith("anchor") else before < 0
        deltas = rows[~first] - rows[before[~first]]
        share = first.mean() / rows.shape[1]
        return (
            np.concatenate([(rows**2).mean(axis=0), (deltas**2).mean(axis=0)]),
            np.repeat([share, 1 / rows.shape[1] - share], rows.shape[1]),
        )
    size = int(over_tokens.split()[-1]) if over_tokens else 1
    blocks = rows.reshape(CHUNK // size, size, -1)
    energy = ((haar(size) @ blocks) ** 2).mean(axis=0)
    first = 1
    while first < size:
        energy[first : 2 * first] = energy[first : 2 * first].mean(axis=0)
        first *= 2
    return energy.ravel(), np.full(energy.size, 1 / energy.size)


def layers_of(text: DumpText) -> range:
    count = len(text.geometry.layers)
    return range(0, count, max(1, count // LAYERS))


@cache
def chunks_of(text: DumpText, layer: int, tensor: str, *, undo_rope: bool) -> list[Floats]:
    """Some chunks [256, heads, dims] without their channels' means."""
    exact = text.values(layer, tensor, "bf16")
    chunks = []
    for chunk in CHUNKS:
        part = exact[chunk * CHUNK : (chunk + 1) * CHUNK]
        if undo_rope:
            position = text.first_position + chunk * CHUNK
            part = rotate(part, text.geometry.layers[layer].rope, position, inverse=True)
        chunks.append((part - part.mean(axis=0)).astype(np.float64))
    return chunks


def karhunen_loeve(texts: list[DumpText], layer: int, tensor: str, *, undo_rope: bool) -> Floats:
    """[heads, dims, dims]: eigenvectors of the covariance within chunks."""
    parts = [c for text in texts for c in chunks_of(text, layer, tensor, undo_rope=undo_rope)]
    covariance = sum(part.transpose(1, 2, 0) @ part.transpose(1, 0, 2) for part in parts)
    return np.linalg.eigh(covariance)[1]


def bits(texts: list[DumpText], tensor: str, undo_rope: bool, channels: str, tokens: str) -> float:
    """The mean over layers and chunks of the first text."""
    rates = []
    for layer in layers_of(texts[0]):
        sources = chunks_of(texts[0], layer, tensor, undo_rope=False)
        chunks = chunks_of(texts[0], layer, tensor, undo_rope=undo_rope)
        basis = np.eye(sources[0].shape[2])
        if channels == "Hadamard":
            basis = hadamard(len(basis))
        elif channels == "KLT":
            basis = karhunen_loeve(texts[1:], layer, tensor, undo_rope=undo_rope)
        for source, chunk in zip(sources, chunks, strict=True):
            rows = (chunk.transpose(1, 0, 2) @ basis).transpose(1, 0, 2).reshape(CHUNK, -1)
            distortion = DISTORTION * float((source**2).mean())
            rates.append(rate(*variances_over_tokens(rows, tokens), distortion))
    return float(np.mean(rates))


def coded_tiles(text: DumpText) -> Iterator[Floats]:
    """What the codec quantizes, [256, channels] in units of the tile's deviation: K with rope
    undone, V with its tokens' sizes taken out, both without means.
    """
    for layer in layers_of(text):
        for tensor in text.tensors(layer):
            if tensor == "q":
                continue
            for chunk in chunks_of(text, layer, tensor, undo_rope=tensor == "k"):
                rows = chunk.reshape(CHUNK, -1)
                if tensor == "v":
                    squares = TOKEN_BIAS * (rows**2).mean(axis=1, keepdims=True)
                    rows = rows / np.exp2(np.round(0.5 * np.log2(squares)))
                yield rows / np.sqrt((rows**2).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dump", type=Path, help="made by python -m bench.kv dump")
    texts = load(parser.parse_args().dump).texts
    print(f"| {texts[0].name} | {' | '.join(OVER_CHANNELS)} |\n|---|---|---|---|")
    for tensor, undo_rope in (("k", False), ("k", True), ("v", False)):
        for over_tokens in OVER_TOKENS:
            # What is learnt is not worth more rows.
            cells = [
                f"{bits(list(texts), tensor, undo_rope, channels, over_tokens):.2f}"
                if channels != "KLT" or (not over_tokens and len(texts) > 1)
                else ""
                for channels in OVER_CHANNELS
            ]
            name = f"{tensor.upper()}{', rope undone' if undo_rope else ''}"
            print(
                f"| {name}{over_tokens and ', '}{over_tokens} | {' | '.join(cells)} |", flush=True
            )
    tiles = list(coded_tiles(texts[0]))
    print_quantizers(tiles)
    print_tables(tiles)


if __name__ == "__main__":
    main()

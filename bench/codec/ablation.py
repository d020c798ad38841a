"""What transforms would gain on real KV, before any of them is built.

    python -m bench.codec.ablation build/kv/bench-smollm2

Prints, as a Markdown table, bits per value at a relative distortion of 0.03 by reverse
water-filling over the variances that each transform leaves (Cover and Thomas, 10.3.3), for chunks
of 256 tokens of layers spread evenly over the model. Variances of a transform over tokens are
pooled by octave.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.kv.dumps import DumpText, load
from bench.kv.rope import rotate

Floats = NDArray[np.float64]

CHUNK = 256
DISTORTION = 0.03
LAYERS = 6
CHUNKS = (1, 5, 9, 13)


def rate(variances: Floats, distortion: float) -> float:
    """Bits per value of independent Gaussians at a mean squared error, by bisection."""
    low, high = 1e-12, float(variances.max())
    for _ in range(60):
        level = float(np.sqrt(low * high))
        if np.minimum(variances, level).mean() > distortion:
            high = level
        else:
            low = level
    return float(np.maximum(0, 0.5 * np.log2(np.maximum(variances, 1e-12) / low)).mean())


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


def variances_over_tokens(rows: Floats, size: int) -> Floats:
    """Of each channel and octave of a Haar transform over `size` tokens; `rows` [256, channels]."""
    blocks = rows.reshape(CHUNK // size, size, -1)
    energy = (np.einsum("bj,njc->nbc", haar(size), blocks) ** 2).mean(axis=0)
    first = 1
    while first < size:
        energy[first : 2 * first] = energy[first : 2 * first].mean(axis=0)
        first *= 2
    return energy.ravel()


def bits(text: DumpText, tensor: str, *, undo_rope: bool, channels: str, size: int) -> float:
    """The mean over layers and chunks; `channels` is "as they are" or "Hadamard"."""
    count = len(text.geometry.layers)
    rates = []
    for layer in range(0, count, max(1, count // LAYERS)):
        exact = text.values(layer, tensor, "bf16")
        rope = text.geometry.layers[layer].rope
        turned = rotate(exact, rope, text.first_position, inverse=True) if undo_rope else exact
        mixed = turned @ hadamard(exact.shape[2]) if channels == "Hadamard" else turned
        for chunk in CHUNKS:
            part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            source = exact[part].reshape(CHUNK, -1).astype(np.float64)
            rows = mixed[part].reshape(CHUNK, -1).astype(np.float64)
            spread = float((source - source.mean(axis=0)).var())
            variances = variances_over_tokens(rows - rows.mean(axis=0), size)
            rates.append(rate(variances, DISTORTION * spread))
    return float(np.mean(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dump", type=Path, help="made by python -m bench.kv dump")
    text = load(parser.parse_args().dump).texts[0]
    print(f"| {text.name} | as they are | Hadamard over a head |\n|---|---|---|")
    for tensor, undo_rope in (("k", False), ("k", True), ("v", False)):
        for size in (1, 2, 8, 32):
            cells = [
                f"{bits(text, tensor, undo_rope=undo_rope, channels=channels, size=size):.2f}"
                for channels in ("as they are", "Hadamard")
            ]
            name = f"{tensor.upper()}{', rope undone' if undo_rope else ''}"
            over = f", Haar over {size} tokens" if size > 1 else ""
            print(f"| {name}{over} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()

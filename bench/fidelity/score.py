"""Scores schemes on one text of a dump: bits per value and attention-output error, layer by layer.

Layers are read from disk one at a time and every scheme is applied to a layer before the next is
read, so that memory holds one layer and the exact attention output is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.fidelity.attention import probe
from bench.fidelity.rates import Point
from bench.kv.baselines.scheme import Calibration, Dtype, Kind, Scheme, round16, site
from bench.kv.dumps import Dump, DumpText

Tensors = dict[Kind, np.ndarray]
"""What a store holds of a layer: K and V, or K alone if it is latent."""


@dataclass
class LevelScore:
    """One level of one scheme on one text."""

    scheme: str
    level: str
    lossless: bool
    bits: dict[Kind, float] = field(default_factory=lambda: {"k": 0.0, "v": 0.0})
    counts: dict[Kind, int] = field(default_factory=lambda: {"k": 0, "v": 0})
    layer_errors: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.scheme} {self.level}".strip()

    @property
    def bits_per_value(self) -> float:
        return sum(self.bits.values()) / sum(self.counts.values())

    @property
    def values(self) -> int:
        """Of K."""
        return self.counts["k"]

    @property
    def point(self) -> Point:
        errors = self.layer_errors
        return Point(self.bits_per_value, float(np.mean(errors)), max(errors))


CALIBRATION_TOKENS = 2048
"""Of each text; two texts give the 4,096 tokens per layer that offline tables are learnt from."""


def calibration_of(texts: Sequence[DumpText], dtype: Dtype) -> Calibration:
    """K and V of all layers of the beginnings of texts that are not scored."""
    return [
        (
            site(text.geometry, layer, kind, dtype, text.first_position),
            text.values(layer, kind, dtype)[:CALIBRATION_TOKENS],
        )
        for text in texts
        for layer in range(len(text.geometry.layers))
        for kind in _kinds(text, layer)
    ]


def split_texts(dump: Dump, scored: str | None = None) -> tuple[DumpText, list[DumpText]]:
    """The text to score (the first, or the one named) and the others, to calibrate on."""
    chosen = dump.text(scored) if scored else dump.texts[0]
    return chosen, [text for text in dump.texts if text is not chosen]


def score_attention(
    text: DumpText, dtype: Dtype, schemes: Sequence[Scheme]
) -> list[list[LevelScore]]:
    """One list of levels per scheme; the schemes are fitted already."""
    scores = [
        [LevelScore(scheme.name, level, scheme.lossless) for level in scheme.levels]
        for scheme in schemes
    ]
    for layer in range(len(text.geometry.layers)):
        exact: Tensors = {kind: text.values(layer, kind, dtype) for kind in _kinds(text, layer)}
        queries = probe(
            _queries(text, layer, dtype),
            *_read(exact, text, layer),
            window=text.geometry.layers[layer].window,
            scale=text.geometry.head_dim**-0.5,
        )
        for scheme, levels in zip(schemes, scores, strict=True):
            decoded = _coded(scheme, exact, text, layer, dtype, levels)
            for score, tensors in zip(levels, decoded, strict=True):
                k, v = _read(tensors, text, layer)
                error = 0.0 if scheme.lossless else queries.relative_error(k, v)
                score.layer_errors.append(error)
    return scores


def _coded(
    scheme: Scheme,
    exact: Tensors,
    text: DumpText,
    layer: int,
    dtype: Dtype,
    levels: Sequence[LevelScore],
) -> list[Tensors]:
    """What each level decodes to, rounded as an engine gets it; adds up its bits."""
    decoded: list[Tensors] = [{} for _ in levels]
    for kind, values in exact.items():
        where = site(text.geometry, layer, kind, dtype, text.first_position)
        for score, tensors, result in zip(
            levels, decoded, scheme.encode_decode(values, where), strict=True
        ):
            tensors[kind] = round16(result.reconstruction, dtype)
            score.bits[kind] += result.bits
            score.counts[kind] += values.size
    return decoded


def _kinds(text: DumpText, layer: int) -> list[Kind]:
    return [tensor for tensor in text.tensors(layer) if tensor != "q"]


def _queries(text: DumpText, layer: int, dtype: Dtype) -> np.ndarray:
    if "q" not in text.tensors(layer):
        raise ValueError(f"layer {layer} of {text.name} has no q: it cannot be scored")
    return text.values(layer, "q", dtype)


def _read(tensors: Tensors, text: DumpText, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """K and V as attention reads them: of a latent row, V is what precedes its RoPE channels."""
    k = tensors["k"]
    latent = k.shape[2] - text.geometry.layers[layer].rope.dims
    return k, tensors["v"] if "v" in tensors else k[:, :, :latent]

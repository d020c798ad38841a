"""Reprise's own codec, through the Python package: one encode, one level per plane.

K and V are encoded apart, beside a value tensor or key tensor of almost nothing, because a scheme
gets one at a time. Counted are their segments, and their share of what a whole piece of the model
has on top: header, directory, and the padding of a plane, half of 4 KiB.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from bench.fidelity.rows import OURS, PROFILED
from bench.fidelity.score import CALIBRATION_TOKENS
from bench.kv.baselines.scheme import CHUNK_TOKENS, Dtype, Result, Scheme, Site, site
from bench.kv.dumps import DumpText
from bench.kv.geometry import Rope
from bench.kv.rounding import rounded, widened

if TYPE_CHECKING:
    import reprise

LEVELS = 8
_PADDING_BYTES = 2048


class Reprise(Scheme):
    """Without calibration: every channel of K and V is coded by what its own tile says."""

    name = OURS
    levels = tuple(str(level) for level in range(LEVELS))
    profile: str | None = None
    """The text of the profile that K is coded with."""

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        import reprise

        is_key = site.kind == "k"
        tokens, heads, dim = x.shape
        stored = rounded(x, site.dtype)[np.newaxis]
        other = np.zeros((1, tokens, heads, 1), stored.dtype)
        namespace = _namespace(
            site.dtype, (site.layer,), heads, dim if is_key else 1, 1 if is_key else dim,
            site.rope if is_key else None, self.profile if is_key else None,
        )  # fmt: skip
        piece = reprise.encode(
            namespace,
            stored if is_key else other,
            other if is_key else stored,
            position=site.first_position,
            profile=self.profile if is_key else None,
        )
        share = _meta_bytes(site.dtype, site.layers, heads, dim, _described(site.rope))
        part = 0 if is_key else 1
        results = []
        size = share / (2 * site.layers)
        for level, plane in enumerate(piece.part_bytes):
            size += plane[part] + _PADDING_BYTES / (2 * site.layers)
            tensor = piece.decode(level)[part]
            results.append(Result(widened(tensor[0]), 8.0 * size))
        return results


class Profiled(Reprise):
    """With a profile of the model, learnt from the queries of other texts as `reprise calibrate`
    learns it. Without other texts there is none.
    """

    name = PROFILED

    def learn(self, texts: Sequence[DumpText], dtype: Dtype) -> None:
        import reprise

        if not texts:
            return
        geometry = texts[0].geometry
        groups = [
            _group((layer,), geometry.kv_heads, geometry.head_dim, geometry.head_dim,
                   site(geometry, layer, "k", dtype).rope)
            for layer in range(len(geometry.layers))
        ]  # fmt: skip
        calibration = reprise.Calibration(
            reprise.Namespace("scored", groups=groups, kv_dtype=dtype, chunk_tokens=CHUNK_TOKENS)
        )
        for text in texts:
            for layer in range(len(geometry.layers)):
                if "q" in text.tensors(layer):
                    queries = text.stored(layer, "q", dtype)[np.newaxis, :CALIBRATION_TOKENS]
                    calibration.take(layer, queries, position=text.first_position)
        self.profile = calibration.profile


def _described(rope: Rope | None) -> tuple[float, int, str, float] | None:
    return None if rope is None else dataclasses.astuple(rope)


def _namespace(
    dtype: str,
    layers: tuple[int, ...],
    heads: int,
    key_dim: int,
    value_dim: int,
    rope: Rope | None,
    profile: str | None = None,
) -> reprise.Namespace:
    import reprise

    return reprise.Namespace(
        "scored",
        groups=[_group(layers, heads, key_dim, value_dim, rope)],
        kv_dtype=dtype,
        chunk_tokens=CHUNK_TOKENS,
        profile=reprise.profile_name(profile) if profile else "",
    )


def _group(
    layers: tuple[int, ...], heads: int, key_dim: int, value_dim: int, rope: Rope | None
) -> reprise.LayerGroup:
    import reprise

    turned = reprise.Rope()
    if rope is not None and rope.dims:
        scaling = {} if rope.scale == 1 else {"scaling": "linear", "parameters": [1 / rope.scale]}
        turned = reprise.Rope(rope.pairing, rotated_dims=rope.dims, theta=rope.theta, **scaling)
    return reprise.LayerGroup(
        list(layers), kv_heads=heads, key_dim=key_dim, value_dim=value_dim, rope=turned
    )


@cache
def _meta_bytes(
    dtype: str, layers: int, heads: int, dim: int, rope: tuple[float, int, str, float] | None
) -> int:
    """Header and directory of a piece of the whole model, as one of a chunk is published."""
    import reprise

    turned = Rope(*rope) if rope else None
    namespace = _namespace(dtype, tuple(range(layers)), heads, dim, dim, turned)
    zeros = rounded(np.zeros((layers, 1, heads, dim), np.float32), dtype)
    return reprise.encode(namespace, zeros, zeros).meta_bytes

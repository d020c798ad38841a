"""Writes dumps in the format of docs/kv-dump.md; `bench.kv.dumps` reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.kv.dumps import FORMAT, MANIFEST, TOKEN_FILE, file_name
from bench.kv.geometry import Geometry
from bench.kv.rounding import STORED, rounded

Arrays = dict[str, NDArray[np.float32]]
"""One layer by tensor name, "k", "v" and "q"; each [tokens, heads, head_dim]."""


@dataclass(frozen=True)
class TextEntry:
    """One text in a manifest."""

    name: str
    sha256: str
    tokens: int
    first_position: int
    dir: str


def write_text(
    directory: Path, name: str, sha256: str, layers: Sequence[Arrays], dtypes: Sequence[str]
) -> TextEntry:
    """Writes DIRECTORY/NAME/L*.*; raises ValueError where rounding turns a finite value to inf."""
    folder = directory / name
    folder.mkdir(parents=True, exist_ok=True)
    for index, layer in enumerate(layers):
        for tensor, values in layer.items():
            for dtype in dtypes:
                stored = rounded(values, dtype)
                if dtype == "fp16" and np.isinf(stored).sum() != np.isinf(values).sum():
                    raise ValueError(
                        f"{name}, layer {index}, {tensor}: up to {np.abs(values).max()}, over fp16"
                    )
                stored.astype(STORED[dtype], copy=False).tofile(
                    folder / file_name(index, tensor, dtype)
                )
    return TextEntry(name, sha256, len(layers[0]["k"]), 0, name)


def write_token_ids(folder: Path, ids: ArrayLike) -> None:
    """Writes the ids of a text's tokens beside its arrays."""
    np.asarray(ids).astype("<u4").tofile(folder / TOKEN_FILE)


def write_manifest(
    directory: Path,
    *,
    model: str,
    model_sha256: str,
    geometry: Geometry,
    texts: Sequence[TextEntry],
) -> None:
    """Writes DIRECTORY/dump.json, which makes the directory a dump: call it last."""
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "model": model,
        "model_sha256": model_sha256,
        "q_heads": geometry.q_heads,
        "kv_heads": geometry.kv_heads,
        "head_dim": geometry.head_dim,
        "layers": len(geometry.layers),
        "per_layer": [asdict(layer) for layer in geometry.layers],
        "texts": [asdict(text) for text in texts],
    }
    partial = directory / (MANIFEST + ".partial")
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    partial.rename(directory / MANIFEST)

"""A small dump of made-up KV (docs/kv-dump.md), for `reprise put --kv` in a machine."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

TOKENS = 512  # two chunks
LAYERS, KV_HEADS, HEAD_DIM = 2, 2, 64


def write_dump(directory: Path) -> None:
    """One text of two chunks: a normal distribution with a mean of its own in every channel."""
    rope = {"theta": 10000.0, "dims": HEAD_DIM, "pairing": "halves", "scale": 1.0}
    layer = {"kind": "full", "window": None, "rope": rope}
    text = {"name": "text", "sha256": "cd" * 32, "tokens": TOKENS, "first_position": 0}
    shape = {"q_heads": KV_HEADS, "kv_heads": KV_HEADS, "head_dim": HEAD_DIM, "layers": LAYERS}
    manifest = {
        "format": "reprise-kv-dump/1",
        "model": "made-up",
        "model_sha256": "ab" * 32,
        **shape,
        "per_layer": [layer] * LAYERS,
        "texts": [{**text, "dir": "text"}],
    }
    (directory / "text").mkdir(parents=True)
    (directory / "dump.json").write_text(json.dumps(manifest))
    (directory / "text" / "tokens.u32").write_bytes(struct.pack(f"<{TOKENS}I", *range(TOKENS)))
    numbers = random.Random(7)
    for index in range(LAYERS):
        for tensor in ("k", "v"):
            name = f"L{index:03d}.{tensor}.bf16"
            (directory / "text" / name).write_bytes(_bf16_values(numbers))


def _bf16_values(numbers: random.Random) -> bytes:
    means = [numbers.gauss(0, 3) for _ in range(KV_HEADS * HEAD_DIM)]
    values = [mean + numbers.gauss(0, 1) for _ in range(TOKENS) for mean in means]
    floats = struct.pack(f"<{len(values)}f", *values)
    # bf16 is the upper half of a float32.
    return b"".join(floats[at + 2 : at + 4] for at in range(0, len(floats), 4))

"""Pushes a prompt out of a store's memory, the way other prompts do: by publishing more KV."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import reprise

from .connector import CHUNK_TOKENS
from .processes import ProcessError

_LAYERS, _KV_HEADS, _HEAD_DIM = 30, 3, 64
# Said to be dear, so that the store rather gives up what is cheap to compute.
_RECOMPUTE_SECONDS = 60.0
_MOST_CHUNKS = 64
_TIMEOUT_S = 30.0


def push_out(store: str, tiers: Callable[[], list[str]]) -> int:
    """Publishes noise, a chunk at a time, until `tiers` has nothing but the disk; returns how many.

    Raises ProcessError if that takes more than a store of half a GiB can hold.
    """
    group = reprise.LayerGroup(
        list(range(_LAYERS)), kv_heads=_KV_HEADS, key_dim=_HEAD_DIM, value_dim=_HEAD_DIM
    )
    namespace = reprise.Namespace(
        "noise", groups=[group], kv_dtype="fp16", chunk_tokens=CHUNK_TOKENS
    )
    random = np.random.default_rng(0)
    shape = (_LAYERS, CHUNK_TOKENS, _KV_HEADS, _HEAD_DIM)
    with reprise.connect(store, timeout=_TIMEOUT_S) as client:
        for count in range(_MOST_CHUNKS):
            if tiers() == ["nvme"]:
                return count
            tokens = np.full(CHUNK_TOKENS, count, np.uint32)
            key, value = (random.standard_normal(shape).astype(np.float16) for _ in range(2))
            client.publish(
                reprise.PrefixKeys(namespace, tokens),
                1,
                (key, value),
                recompute_seconds_per_chunk=_RECOMPUTE_SECONDS,
                timeout=_TIMEOUT_S,
            )
    raise ProcessError(f"{_MOST_CHUNKS} chunks of noise did not push the prompt out of memory")

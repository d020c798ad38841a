"""Pins, warm-up and times to live, through a store with a disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import reprise

if TYPE_CHECKING:
    from conftest import StoreProcess

CHUNK = 16


def keys() -> reprise.PrefixKeys:
    group = reprise.LayerGroup([0, 1], kv_heads=2, key_dim=8, value_dim=8)
    namespace = reprise.Namespace("keep", groups=[group], kv_dtype="fp16", chunk_tokens=CHUNK)
    return reprise.PrefixKeys(namespace, list(range(3 * CHUNK)))


def views() -> tuple[np.ndarray, np.ndarray]:
    shape = (2, 3 * CHUNK, 2, 8)
    return np.ones(shape, np.float16), np.zeros(shape, np.float16)


def test_pins_and_warms_a_prefix(start_store: Callable[..., StoreProcess], tmp_path: Path) -> None:
    prefix = keys()
    assert prefix.keys == [prefix.key(chunk, 0) for chunk in range(3)]
    options = ("--disk", str(tmp_path / "disk"), "--disk-size", "1GiB")
    store = start_store(*options)
    try:
        with reprise.connect(store.address) as client:
            assert client.pin(prefix.keys, 60) == 0
            client.publish(prefix, 3, views())
            # Written to the disk for it.
            assert client.pin(prefix.keys, 60) == 3
            assert client.unpin(prefix.keys[:1]) == 1
            assert client.unpin(prefix.keys) == 2
            with pytest.raises(ValueError, match="86400"):
                client.pin(prefix.keys, 86_401)
    finally:
        store.kill()
    store = start_store(*options)
    try:
        with reprise.connect(store.address) as client:
            assert {state.tier for state in client.lookup(prefix).pieces} == {"nvme"}
            assert client.warm(prefix.keys) == 3
            assert {state.tier for state in client.lookup(prefix).pieces} == {"host"}
    finally:
        store.kill()


def test_what_has_a_time_to_live_is_a_miss_after_it(store: StoreProcess) -> None:
    with reprise.connect(store.address) as client:
        begun = time.monotonic()
        client.publish(keys(), 3, views(), ttl=3)
        while client.lookup(keys()).chunks > 0:
            assert time.monotonic() < begun + 60
        assert time.monotonic() > begun + 2

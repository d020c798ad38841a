"""Publishing durably: it takes a disk, and survives a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

import reprise

if TYPE_CHECKING:
    from conftest import StoreProcess

CHUNK = 16


def keys() -> reprise.PrefixKeys:
    group = reprise.LayerGroup([0, 1], kv_heads=2, key_dim=8, value_dim=8)
    namespace = reprise.Namespace("durable", groups=[group], kv_dtype="fp16", chunk_tokens=CHUNK)
    return reprise.PrefixKeys(namespace, list(range(2 * CHUNK)))


def tensor(seed: int) -> npt.NDArray[np.float16]:
    return np.random.default_rng(seed).normal(size=(2, 2 * CHUNK, 2, 8)).astype(np.float16)


def test_what_is_published_durably_survives_a_kill(
    start_store: Callable[..., StoreProcess], tmp_path: Path
) -> None:
    options = ("--disk", str(tmp_path / "disk"), "--disk-size", "1GiB")
    published = (tensor(1), tensor(2))
    store = start_store(*options)
    with reprise.connect(store.address) as client:
        assert client.publish(keys(), 2, published, durable=True).pieces_stored == 2
        # Held already, and answered for once more.
        assert client.publish(keys(), 2, published, durable=True).pieces_already_held == 2
    store.kill()
    store = start_store(*options)
    try:
        with reprise.connect(store.address) as client:
            loaded = (np.zeros_like(published[0]), np.zeros_like(published[1]))
            assert client.load(keys(), 0, 2, loaded).chunks == 2
    finally:
        store.kill()
    for got, want in zip(loaded, published, strict=True):
        assert np.array_equal(got.view(np.uint16), want.view(np.uint16))


def test_a_store_without_a_disk_refuses(store: StoreProcess) -> None:
    with (
        reprise.connect(store.address) as client,
        pytest.raises(reprise.RepriseError, match="--disk"),
    ):
        client.publish(keys(), 2, (tensor(1), tensor(2)), durable=True)

"""Codecs and levels: encoded without a store, and loaded from one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

import reprise

if TYPE_CHECKING:
    from conftest import StoreProcess

LAYERS, HEADS, DIM, CHUNK, LEVELS = 2, 2, 64, 256, 8

Array = npt.NDArray[Any]


def namespace(kv_dtype: str, **group: int) -> reprise.Namespace:
    rope = reprise.Rope("halves", rotated_dims=DIM, theta=10_000.0)
    layers = reprise.LayerGroup(
        list(range(LAYERS)), kv_heads=HEADS, key_dim=DIM, value_dim=DIM, rope=rope, **group
    )
    return reprise.Namespace("sample", groups=[layers], kv_dtype=kv_dtype, chunk_tokens=CHUNK)


def floats(tokens: int, seed: int = 0) -> tuple[Array, Array]:
    """K and V with a mean and a deviation for each channel."""
    random = np.random.default_rng(seed)
    mean, deviation = random.normal(size=(2, 2, LAYERS, 1, HEADS, DIM))
    values = 2 * mean + np.exp2(deviation) * random.normal(size=(2, LAYERS, tokens, HEADS, DIM))
    return values[0].astype(np.float32), values[1].astype(np.float32)


def stored(values: Array, kv_dtype: str) -> Array:
    if kv_dtype == "fp16":
        return values.astype(np.float16)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def as_floats(bits: Array) -> Array:
    if bits.dtype == np.float16:
        return bits.astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def lost(loaded: Array, exact: Array) -> float:
    """The worst layer's relative L2 error."""
    error = np.linalg.norm((as_floats(loaded) - as_floats(exact)).reshape(LAYERS, -1), axis=1)
    return float(np.max(error / np.linalg.norm(as_floats(exact).reshape(LAYERS, -1), axis=1)))


@pytest.mark.parametrize("kv_dtype", ["bf16", "fp16"])
def test_an_encoded_piece_decodes_at_every_level(kv_dtype: str) -> None:
    key, value = (stored(values, kv_dtype) for values in floats(CHUNK))
    piece = reprise.encode(namespace(kv_dtype), key, value, position=512)
    assert piece.codec == "progressive"
    assert len(piece.level_bytes) == len(piece.distortions) == LEVELS
    assert piece.level_bytes == sorted(set(piece.level_bytes))
    assert piece.level_bytes[0] < key.nbytes / 2 < piece.level_bytes[-1] < 2 * key.nbytes
    for level, told in enumerate(piece.distortions):
        at_level = piece.decode(level)
        assert at_level[1] is not None
        # Told is what was lost before rounding to 16 bits.
        assert lost(at_level[0], key) == pytest.approx(told[0], rel=0.03)
        assert lost(at_level[1], value) == pytest.approx(told[1], rel=0.03)
    exact = piece.decode()
    assert exact[1] is not None
    assert (exact[0].dtype, exact[0].shape) == (key.dtype, key.shape)
    assert exact[0].tobytes() == key.tobytes()
    assert exact[1].tobytes() == value.tobytes()
    assert piece.distortions[-1] == (0.0, 0.0)


def test_levels_and_slots_that_do_not_exist_are_refused() -> None:
    space = namespace("fp16", layers_per_piece=1)
    key, value = (stored(values, "fp16") for values in floats(CHUNK))
    piece = reprise.encode(space, key[1:], value[1:], slot=1)
    with pytest.raises(ValueError, match="level is 8; the piece has levels 0 to 7"):
        piece.decode(LEVELS)
    with pytest.raises(TypeError):
        piece.decode(-1)
    with pytest.raises(ValueError, match="slot is 2; a chunk of the namespace has 2 pieces"):
        reprise.encode(space, key[1:], value[1:], slot=2)
    with pytest.raises(ValueError, match="shape"):
        reprise.encode(space, key, value)
    with pytest.raises(ValueError, match="V is absent"):
        reprise.encode(space, key[1:])
    with pytest.raises(ValueError, match="codec"):
        reprise.encode(space, key[1:], value[1:], codec="zstd")


def test_raw_and_what_becomes_raw_have_one_level() -> None:
    key, value = floats(CHUNK)
    full = reprise.encode(namespace("fp32"), key, value)
    half = reprise.encode(
        namespace("fp16"), key.astype(np.float16), value.astype(np.float16), codec="raw"
    )
    for piece, source in ((full, key), (half, key.astype(np.float16))):
        assert piece.codec == "raw"
        assert piece.distortions == [(0.0, 0.0)]
        assert len(piece.level_bytes) == 1
        decoded = piece.decode(0)[0]
        assert decoded.dtype == source.dtype
        assert decoded.tobytes() == source.tobytes()


def test_a_latent_has_no_values_and_arrays_may_be_strided_and_short() -> None:
    group = reprise.LayerGroup([0, 1], kv_heads=1, key_dim=96, value_dim=0, kind="latent")
    space = reprise.Namespace("latent", groups=[group], kv_dtype="fp16", chunk_tokens=CHUNK)
    larger = np.random.default_rng(0).normal(size=(2, 2 * 100, 1, 96)).astype(np.float16)
    piece = reprise.encode(space, larger[:, ::2])
    latent, nothing = piece.decode()
    assert nothing is None
    assert latent.tobytes() == np.ascontiguousarray(larger[:, ::2]).tobytes()


def test_encoding_does_not_hold_the_interpreter() -> None:
    space = namespace("fp16")
    key, value = (stored(values, "fp16") for values in floats(CHUNK))
    ticks = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1

    counter = threading.Thread(target=count)
    counter.start()
    for _ in range(50):
        reprise.encode(space, key, value).decode()
    stop.set()
    counter.join()
    assert ticks > 1000


@pytest.mark.parametrize("kv_dtype", ["bf16", "fp16"])
def test_a_store_gives_what_the_level_promises(store: StoreProcess, kv_dtype: str) -> None:
    space = namespace(kv_dtype)
    keys = reprise.PrefixKeys(space, range(2 * CHUNK))
    key, value = (stored(values, kv_dtype) for values in floats(2 * CHUNK))
    with reprise.connect(store.address, carrier="ucx") as client:
        client.publish(keys, 2, (key, value))
        alone = reprise.encode(space, key[:, CHUNK:], value[:, CHUNK:], position=CHUNK)
        held = client.lookup(keys).pieces[1]
        assert (held.level_bytes, held.distortions) == (alone.level_bytes, alone.distortions)
        moved = []
        for level in range(LEVELS):
            loaded = (np.zeros_like(key), np.zeros_like(value))
            result = client.load(keys, 0, 2, loaded, level=level)
            assert result.chunks == 2
            assert [selection.level for selection in result.selections] == [level, level]
            assert result.lossless is (level == LEVELS - 1)
            decoded = alone.decode(level)[0]
            assert np.ascontiguousarray(loaded[0][:, CHUNK:]).tobytes() == decoded.tobytes()
            moved.append(result.bytes_received)
        assert moved == sorted(set(moved))
        assert loaded[0].tobytes() == key.tobytes()


def calibrated(kv_dtype: str) -> str:
    """A profile from queries that are twice as large, or half, in every pair of a head."""
    calibration = reprise.Calibration(namespace(kv_dtype))
    queries = np.ones((1, 300, 2 * HEADS, DIM), np.float32)
    queries[..., : DIM // 4] = queries[..., DIM // 2 : 3 * DIM // 4] = 4
    for layer in range(LAYERS):
        calibration.take(layer, stored(queries, kv_dtype))
    return calibration.profile


@pytest.mark.parametrize("kv_dtype", ["bf16", "fp16"])
def test_a_profile_is_learnt_published_and_loaded(store: StoreProcess, kv_dtype: str) -> None:
    profile = calibrated(kv_dtype)
    digits = ("9" * (DIM // 4) + "7" * (DIM // 4)) * 2 * HEADS
    assert profile.splitlines()[2] == f"layer 0 key 0 value 0 channels {digits}"
    plain = namespace(kv_dtype)
    space = reprise.Namespace(
        plain.model, groups=plain.groups, kv_dtype=kv_dtype, chunk_tokens=CHUNK,
        profile=reprise.profile_name(profile),
    )  # fmt: skip
    keys = reprise.PrefixKeys(space, range(CHUNK))
    key, value = (stored(values, kv_dtype) for values in floats(CHUNK))
    with reprise.connect(store.address) as client:
        with pytest.raises(ValueError, match="given is none"):
            client.publish(keys, 1, (key, value))
        with pytest.raises(ValueError, match="line 1 of the profile"):
            client.publish(keys, 1, (key, value), profile="nonsense")
        client.publish(keys, 1, (key, value), profile=profile)
        assert client.lookup(reprise.PrefixKeys(plain, range(CHUNK))).chunks == 0
        alone = reprise.encode(space, key, value, profile=profile)
        for level in range(LEVELS):
            loaded = (np.zeros_like(key), np.zeros_like(value))
            assert client.load(keys, 0, 1, loaded, level=level).chunks == 1
            assert loaded[0].tobytes() == alone.decode(level)[0].tobytes()
        assert loaded[0].tobytes() == key.tobytes()


def test_queries_that_do_not_fit_are_refused() -> None:
    calibration = reprise.Calibration(namespace("fp16"))
    queries = np.ones((1, 8, 2 * HEADS, DIM), np.float16)
    with pytest.raises(ValueError, match="no layer 2"):
        calibration.take(LAYERS, queries)
    with pytest.raises(ValueError, match="a multiple of 2, 64"):
        calibration.take(0, queries[:, :, :3])
    with pytest.raises(ValueError, match="dtype"):
        calibration.take(0, queries.astype(np.float32))


def test_publish_stores_raw_when_asked(store: StoreProcess) -> None:
    keys = reprise.PrefixKeys(namespace("fp16"), range(CHUNK))
    key, value = (stored(values, "fp16") for values in floats(CHUNK))
    with reprise.connect(store.address) as client:
        client.publish(keys, 1, (key, value), codec="raw")
        assert client.lookup(keys).pieces[0].distortions == [(0.0, 0.0)]
        with pytest.raises(ValueError, match="codec is"):
            client.publish(keys, 1, (key, value), codec="zip")

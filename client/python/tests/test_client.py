"""The client against a real store in another process."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

import reprise

if TYPE_CHECKING:
    from conftest import StoreProcess

LAYERS, HEADS, DIM, CHUNK = 4, 2, 8, 16
CARRIERS = ("ucx", "grpc", "auto")

Array = npt.NDArray[Any]
Scalar = type[np.generic]


def namespace(kv_dtype: str = "fp16", model: str = "sample") -> reprise.Namespace:
    group = reprise.LayerGroup(list(range(LAYERS)), kv_heads=HEADS, key_dim=DIM, value_dim=DIM)
    return reprise.Namespace(model, groups=[group], kv_dtype=kv_dtype, chunk_tokens=CHUNK)


def keys_of(chunks: int, kv_dtype: str = "fp16", seed: int = 0) -> reprise.PrefixKeys:
    tokens = np.random.default_rng(seed).integers(0, 50_000, chunks * CHUNK, dtype=np.uint32)
    return reprise.PrefixKeys(namespace(kv_dtype), tokens)


def tensors(chunks: int, dtype: Scalar = np.float16, seed: int = 0) -> tuple[Array, Array]:
    bits = np.random.default_rng(seed).integers(
        0, 256, (2, LAYERS, chunks * CHUNK, HEADS, DIM * np.dtype(dtype).itemsize), dtype=np.uint8
    )
    return bits[0].view(dtype), bits[1].view(dtype)


def same_bits(a: Array, b: Array) -> bool:
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_what_was_published_comes_back(store: StoreProcess, carrier: str) -> None:
    keys = keys_of(5)
    published = tensors(5)
    with reprise.connect(store.address, carrier=carrier) as client:
        assert client.carrier == ("grpc" if carrier == "grpc" else "ucx")
        stored = client.publish(keys, 5, published)
        assert (stored.pieces_stored, stored.pieces_already_held) == (5, 0)
        assert client.publish(keys, 5, published).pieces_already_held == 5

    with reprise.connect(store.address, carrier=carrier) as client:
        hit = client.lookup(keys, hold=1.0)
        assert (hit.chunks, hit.miss) == (5, None)
        assert len(hit.pieces) == 5
        assert hit.pieces[0].distortions[-1] == (0.0, 0.0)
        loaded = (np.zeros_like(published[0]), np.zeros_like(published[1]))
        result = client.load(keys, 0, 5, loaded, expected=hit)
        assert (result.chunks, result.misses, result.lossless) == (5, [], True)
        assert same_bits(loaded[0], published[0])
        assert same_bits(loaded[1], published[1])
        assert client.counters["pieces_loaded"] == 5


@pytest.mark.parametrize(
    ("kv_dtype", "dtype"),
    [("bf16", np.uint16), ("fp16", np.float16), ("fp16", np.uint16), ("fp32", np.float32)],
)
def test_every_dtype_travels(store: StoreProcess, kv_dtype: str, dtype: Scalar) -> None:
    keys = keys_of(2, kv_dtype)
    published = tensors(2, dtype)
    with reprise.connect(store.address) as client:
        client.publish(keys, 2, [published])
        loaded = tensors(2, dtype, seed=9)
        assert client.load(keys, 0, 2, [loaded]).chunks == 2
    assert same_bits(loaded[0], published[0])


class DlpackOnly:
    """An array that speaks DLPack and nothing else, as torch's tensors do."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __dlpack__(self, **options: object) -> object:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def test_strided_and_dlpack_arrays_are_used_in_place(store: StoreProcess) -> None:
    keys = keys_of(3)
    key, value = tensors(3)
    # Heads before tokens, and only part of a larger buffer.
    key_first = np.ascontiguousarray(key.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    with reprise.connect(store.address) as client:
        client.publish(keys, 3, (key_first, DlpackOnly(value)))
        larger = np.zeros((LAYERS, 3 * CHUNK + 7, HEADS, DIM + 5), np.float16)
        window = larger[:, 4 : 4 + 3 * CHUNK, :, :DIM]
        loaded_value = np.zeros_like(value)
        result = client.load(keys, 0, 3, (window, DlpackOnly(loaded_value)))
        assert result.chunks == 3
    assert same_bits(window, key)
    assert same_bits(loaded_value, value)
    window[...] = 0
    assert not larger.any()  # nothing was written beside the window


def test_unfit_arrays_are_refused(store: StoreProcess) -> None:
    keys = keys_of(2)
    key, value = tensors(2)
    frozen = key.copy()
    frozen.flags.writeable = False
    with reprise.connect(store.address) as client:
        client.publish(keys, 2, (frozen, value))  # reading it is fine
        with pytest.raises(ValueError, match="read-only"):
            client.load(keys, 0, 2, (frozen, value))
        with pytest.raises(ValueError, match="dtype"):
            client.publish(keys, 2, (key.astype(np.float32), value))
        with pytest.raises(ValueError, match="contiguous"):
            client.publish(keys, 2, (np.repeat(key, 2, axis=3)[..., ::2], value))
        with pytest.raises(ValueError, match="shape"):
            client.publish(keys, 2, (key[:, 1:], value))
        with pytest.raises(ValueError, match="axes"):
            client.publish(keys, 2, (key[0], value))
        with pytest.raises(ValueError, match="key and a value"):
            client.publish(keys, 2, (key,))
        with pytest.raises(TypeError, match="numpy"):
            client.publish(keys, 2, ("key", value))
        with pytest.raises(ValueError, match="timeout"):
            client.lookup(keys, timeout=0)


def test_a_shared_prefix_is_loaded_and_the_rest_is_a_miss(store: StoreProcess) -> None:
    tokens = list(range(5 * CHUNK))
    published = tensors(5)
    with reprise.connect(store.address) as client:
        client.publish(reprise.PrefixKeys(namespace(), tokens), 5, published)
        tokens[3 * CHUNK] += 1
        keys = reprise.PrefixKeys(namespace(), tokens)
        hit = client.lookup(keys)
        assert hit.chunks == 3
        assert hit.miss is not None
        assert hit.miss.reason == "absent"
        loaded = tensors(5, seed=3)
        result = client.load(keys, 0, 5, loaded)
        assert result.chunks == 3
        assert [(miss.chunk, miss.reason) for miss in result.misses] == [(3, "absent")]
    assert same_bits(loaded[0][:, : 3 * CHUNK], published[0][:, : 3 * CHUNK])


def test_pieces_travel_as_they_are(store: StoreProcess) -> None:
    keys = keys_of(2)
    with reprise.connect(store.address) as client:
        client.publish(keys, 2, tensors(2))
        piece = client.fetch_piece(keys.key(1, 0), fingerprint=keys.fingerprint)
        assert piece.miss is None
        assert piece.container is not None
        page = client.list(fingerprint=keys.fingerprint)
        assert sorted(entry.key for entry in page.objects) == sorted(
            [keys.key(0, 0), keys.key(1, 0)]
        )
        assert client.remove([keys.key(1, 0)]) == 1
        assert client.stat(keys.key(1, 0)).info is None
        missed = client.fetch_piece(keys.key(1, 0))
        assert missed.container is None
        assert missed.miss is not None
        assert client.publish_piece(piece.container, position=1).pieces_stored == 1
        info = client.stat(keys.key(1, 0), verify=True).info
        assert info is not None
        assert info.position == 1
        with pytest.raises(reprise.DataLossError):
            client.publish_piece(piece.container[:-1])
        assert client.remove_namespace(keys.fingerprint) == 2


def test_a_state_travels_beside_attention(store: StoreProcess) -> None:
    attention = reprise.LayerGroup([0, 1], kv_heads=HEADS, key_dim=DIM, value_dim=DIM)
    state = reprise.LayerGroup([2, 3], kv_heads=3, key_dim=100, value_dim=0, kind="state")
    namespace = reprise.Namespace(
        "hybrid", groups=[attention, state], kv_dtype="fp16", chunk_tokens=CHUNK
    )
    keys = reprise.PrefixKeys(namespace, range(3 * CHUNK))
    random = np.random.default_rng(0)
    key, value = random.random((2, 2, 3 * CHUNK, HEADS, DIM)).astype(np.float16)
    states = random.integers(0, 256, (2, 3, 3, 100), dtype=np.uint8)  # a row for each chunk
    with reprise.connect(store.address) as client:
        assert client.publish(keys, 3, [(key, value), states]).pieces_stored == 6
        with pytest.raises(ValueError, match="dtype"):
            client.publish(keys, 3, [(key, value), states.view(np.float16)])
        into = [(np.zeros_like(key), np.zeros_like(value)), np.zeros_like(states)]
        assert client.load(keys, 0, 3, into).chunks == 3
    assert same_bits(into[0][0], key)
    assert same_bits(into[1][:, 2], states[:, 2])  # only the last state is of use
    assert not into[1][:, :2].any()


def test_a_plan_is_loaded_in_its_order_and_told_meanwhile(store: StoreProcess) -> None:
    keys = keys_of(4)
    published = tensors(4)
    with reprise.connect(store.address) as client:
        client.publish(keys, 4, published)
        client.remove([keys.key(1, 0)])
        hit = client.lookup(keys, hold=1.0, hold_level=0)
        assert (hit.chunks, hit.pieces[0].tier) == (1, "host")
        plan = [
            reprise.Selection(chunk, layer_begin=layer, layer_end=layer + 2)
            for layer in (0, 2)
            for chunk in (0, 1, 3)
        ]
        loaded = (np.zeros_like(published[0]), np.zeros_like(published[1]))
        told: list[tuple[int, bool]] = []
        result = client.load(
            keys,
            *(0, 4, loaded),
            plan=plan,
            observer=lambda index, selection: told.append((index, selection.complete)),
        )
        assert told == [(i, i % 3 != 1) for i in range(6)]
        assert [selection.lossless for selection in result.selections] == [*(True, False, True) * 2]
        assert result.selections[0].level == 7
        assert result.selections[0].distortion == (0.0, 0.0)
        assert [(miss.chunk, miss.reason) for miss in result.misses] == [(1, "absent")] * 2
        assert result.chunks == 1
        assert same_bits(loaded[0][:, 3 * CHUNK :], published[0][:, 3 * CHUNK :])
        assert not loaded[0][:, 2 * CHUNK : 3 * CHUNK].any()  # not in the plan
        with pytest.raises(ValueError, match="selection 0"):
            client.load(keys, 0, 4, loaded, plan=[reprise.Selection(4)])
        with pytest.raises(ValueError, match="empty"):
            client.load(keys, 0, 4, loaded, plan=[])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_observer_that_raises_does_not_end_the_load(store: StoreProcess) -> None:
    keys = keys_of(2)

    def observe(index: int, selection: reprise.SelectionResult) -> None:
        raise RuntimeError("not now")

    with reprise.connect(store.address) as client:
        client.publish(keys, 2, tensors(2))
        assert client.load(keys, 0, 2, tensors(2), observer=observe).chunks == 2


def test_a_dropped_publish_leaves_its_arrays_alone(store: StoreProcess) -> None:
    with reprise.connect(store.address) as client:
        for seed in range(20):
            keys, published = keys_of(8, seed=seed), tensors(8, seed=seed)
            publish = client.publish_async(keys, 8, published)
            del publish  # cancels, and returns when nothing reads any more
            published[0][...] = 0
            # What was stored before the cancellation is what was published, never the zeros.
            intact = tensors(8, seed=seed)
            hit = client.lookup(keys)
            if hit.chunks:
                loaded = tensors(hit.chunks, seed=99)
                assert client.load(keys, 0, hit.chunks, loaded).chunks == hit.chunks
                assert same_bits(loaded[0], intact[0][:, : hit.chunks * CHUNK])


def test_operations_may_overlap_and_be_awaited(store: StoreProcess) -> None:
    keys = [keys_of(2, seed=seed) for seed in range(4)]
    published = [tensors(2, seed=seed) for seed in range(4)]
    with reprise.connect(store.address) as client:
        pending = [client.publish_async(k, 2, p) for k, p in zip(keys, published, strict=True)]
        assert [p.result().pieces_stored for p in pending] == [2] * 4
        assert all(p.done() for p in pending)
        assert pending[0].result().pieces_stored == 2  # again

        async def load_all() -> list[reprise.LoadResult]:
            loads = [
                client.load_async(k, 0, 2, into) for k, into in zip(keys, destinations, strict=True)
            ]
            return await asyncio.gather(*(awaited(load) for load in loads))

        async def awaited(load: reprise.PendingLoad) -> reprise.LoadResult:
            return await load

        destinations = [tensors(2, seed=99) for _ in keys]
        assert [result.chunks for result in asyncio.run(load_all())] == [2] * 4
    for destination, source in zip(destinations, published, strict=True):
        assert same_bits(destination[1], source[1])


def test_a_dropped_load_leaves_its_arrays_alone(store: StoreProcess) -> None:
    keys = keys_of(8)
    with reprise.connect(store.address) as client:
        client.publish(keys, 8, tensors(8))
        for _ in range(50):
            destination = tensors(8, seed=5)
            load = client.load_async(keys, 0, 8, destination)
            del load  # cancels, and returns when nothing writes any more
            gc.collect()
            before = destination[0].tobytes()
            client.load(keys, 0, 8, tensors(8, seed=6))
            assert destination[0].tobytes() == before


def test_waiting_does_not_hold_the_interpreter(store: StoreProcess) -> None:
    ticks = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1

    keys = keys_of(64)
    published = tensors(64)
    counter = threading.Thread(target=count)
    with reprise.connect(store.address) as client:
        counter.start()
        for _ in range(20):
            client.publish(keys, 64, published)
            client.load(keys, 0, 64, published)
        stop.set()
        counter.join()
    assert ticks > 1000


def test_a_killed_store_is_a_miss_within_the_deadline(store: StoreProcess) -> None:
    keys = keys_of(2)
    with reprise.connect(store.address) as client:
        client.publish(keys, 2, tensors(2))
        store.kill()
        started = time.monotonic()
        result = client.load(keys, 0, 2, tensors(2), timeout=20)
        assert result.chunks == 0
        assert result.misses[0].reason in ("peer_lost", "deadline")
        assert client.lookup(keys, timeout=20).chunks == 0
        with pytest.raises(reprise.RepriseError) as caught:
            client.remove([keys.key(0, 0)], timeout=20)
        assert caught.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert time.monotonic() - started < 60


def test_a_closed_client_says_so(store: StoreProcess) -> None:
    client = reprise.connect(store.address)
    client.close()
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.lookup(keys_of(1))


def test_what_cannot_be_reached_raises() -> None:
    with pytest.raises(reprise.UnavailableError) as caught:
        reprise.connect("127.0.0.1:1", timeout=2.0)
    assert caught.value.code == "UNAVAILABLE"
    with pytest.raises(ValueError, match="HOST:PORT"):
        reprise.connect("nowhere")
    with pytest.raises(ValueError, match="carrier"):
        reprise.connect("127.0.0.1:1", carrier="pigeon")


def test_an_unknown_tenant_is_refused(store: StoreProcess) -> None:
    with pytest.raises((PermissionError, reprise.RepriseError)):
        reprise.connect(store.address, tenant="stranger")

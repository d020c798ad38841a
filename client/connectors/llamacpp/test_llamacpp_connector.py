"""The connector under faults: whatever a store does, the engine gets its prompt, with a reason."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import numpy as np
import pytest
import reprise
from reprise_llamacpp import (
    Connector,
    Engine,
    KvShape,
    ModelFacts,
    RopeFacts,
    SequenceState,
    namespace_of,
)
from reprise_llamacpp import connector as connector_module
from reprise_llamacpp.connector import Views

SHAPE = KvShape(layers=2, kv_heads=3, head_dim=4)
CHUNK = 256
WHOLE = 4 * CHUNK
PROMPT = np.arange(WHOLE + 7, dtype=np.int32)
FACTS = ModelFacts(
    name="tiny",
    architecture="llama",
    quantization="F16",
    revision="ab" * 32,
    layers=SHAPE.layers,
    kv_heads=SHAPE.kv_heads,
    head_dim=SHAPE.head_dim,
    rope=RopeFacts(4, 10_000.0, "interleaved"),
    trained_context_tokens=8192,
)


class FakeEngine:
    """Remembers what it was told; its KV is the state it loaded."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.loaded: SequenceState | None = None
        self.token_count = 0
        self.rejects_states = False

    def clear(self) -> None:
        self.token_count = 0

    def blank_state(self, token_count: int) -> SequenceState:
        return SequenceState.blank(SHAPE, token_count)

    def load(self, state: SequenceState) -> None:
        self.token_count = 0
        if self.rejects_states:
            raise RuntimeError("llama.cpp rejected a state")
        self.loaded = state
        self.token_count = state.token_count

    def truncate(self, token_count: int) -> None:
        assert token_count <= self.token_count
        self.token_count = token_count

    def evaluate(self, tokens: np.ndarray, start: int) -> None:
        assert start == self.token_count
        self.batches.append((start, start + tokens.size))
        self.token_count += tokens.size

    def state_out(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        return SequenceState.blank(SHAPE, self.token_count).tokens(begin, end)


class FakeClient:
    """A store that holds `held` chunks, of which `arriving` come when asked for."""

    carrier = "ucx"

    def __init__(self, held: int = 4, arriving: int | None = None, lossless: bool = True) -> None:
        self.held = held
        self.arriving = held if arriving is None else arriving
        self.lossless = lossless
        self.asked_level: int | None = None
        self.published: list[tuple[int, tuple[int, ...]]] = []
        self.closed = False

    def lookup(self, keys: reprise.PrefixKeys, *, timeout: float) -> SimpleNamespace:
        assert timeout > 0
        chunks = min(self.held, keys.chunk_count)
        return SimpleNamespace(chunks=chunks, miss=miss("absent") if chunks < 4 else None)

    def load(
        self,
        keys: reprise.PrefixKeys,
        first: int,
        count: int,
        views: Views,
        *,
        level: int | None,
        expected: SimpleNamespace,
        timeout: float,
    ) -> SimpleNamespace:
        assert timeout > 0
        self.asked_level = level
        chunks = min(self.arriving, count)
        for view in views:
            view[:, : chunks * CHUNK] = 1
            view[:, chunks * CHUNK :] = np.nan
        misses = [miss("peer_lost", "the endpoint\nwas closed")] if chunks < count else []
        return SimpleNamespace(
            chunks=chunks,
            bytes_received=chunks * 1000 + 1,
            lossless=self.lossless,
            selections=[
                SimpleNamespace(complete=chunk < chunks, level=7 if level is None else level)
                for chunk in range(count)
            ],
            misses=misses,
        )

    def publish(
        self,
        keys: reprise.PrefixKeys,
        chunk_count: int,
        views: Views,
        *,
        recompute_seconds_per_chunk: float,
        durable: bool,
        timeout: float,
    ) -> SimpleNamespace:
        self.published.append((chunk_count, views[0].shape))
        self.durable = durable
        return SimpleNamespace(bytes_sent=1000 * chunk_count)

    def close(self) -> None:
        self.closed = True


def miss(reason: str, detail: str = "") -> SimpleNamespace:
    return SimpleNamespace(reason=reason, detail=detail)


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_arguments: object, **_options: object) -> NoReturn:
        raise error

    return fail


def make_connector(engine: FakeEngine, connect: Callable[..., Any], **options: float) -> Connector:
    return Connector(cast(Engine, engine), connect, namespace_of(FACTS), **options)


def connector_of(engine: FakeEngine, client: FakeClient) -> Connector:
    return make_connector(engine, lambda timeout_s: client)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "reprise")
    return caplog


def test_a_whole_hit_leaves_only_the_tail_to_compute(
    engine: FakeEngine, said: pytest.LogCaptureFixture
) -> None:
    prefill = connector_of(engine, FakeClient()).prefill(PROMPT)
    assert engine.batches == [(WHOLE, WHOLE + 7)]
    assert engine.loaded is not None
    assert (engine.loaded.keys == 1).all()
    assert (engine.loaded.values == 1).all()
    assert (prefill.loaded_chunks, prefill.computed_tokens, prefill.carrier) == (4, 7, "ucx")
    assert prefill.bytes_received == 4001
    assert prefill.shortfall == ""
    assert said.messages == []


@pytest.mark.parametrize(
    ("client", "batches"),
    [
        (FakeClient(held=0), [(0, WHOLE), (WHOLE, WHOLE + 7)]),
        (FakeClient(held=2), [(2 * CHUNK, WHOLE), (WHOLE, WHOLE + 7)]),
        (FakeClient(held=4, arriving=3), [(3 * CHUNK, WHOLE), (WHOLE, WHOLE + 7)]),
        (FakeClient(held=4, arriving=0), [(0, WHOLE), (WHOLE, WHOLE + 7)]),
    ],
)
def test_the_cut_is_the_same_whatever_came(
    engine: FakeEngine, client: FakeClient, batches: list[tuple[int, int]]
) -> None:
    connector_of(engine, client).prefill(PROMPT)
    assert engine.batches == batches


def test_of_a_load_that_broke_the_complete_chunks_are_used_and_nothing_else(
    engine: FakeEngine, said: pytest.LogCaptureFixture
) -> None:
    prefill = connector_of(engine, FakeClient(held=4, arriving=2)).prefill(PROMPT)
    assert engine.loaded is not None
    for rows in (engine.loaded.keys, engine.loaded.values):
        assert (rows[:, : 2 * CHUNK] == 1).all()
        assert (rows[:, 2 * CHUNK :] == 0).all()
    assert (prefill.loaded_tokens, prefill.bytes_received) == (2 * CHUNK, 2001)
    assert said.messages == ["recomputing 512 tokens: store unreachable (the endpoint was closed)"]


@pytest.mark.parametrize(
    ("method", "error", "reason"),
    [
        ("lookup", ConnectionError("connection refused"), "store unreachable (connection refused)"),
        ("lookup", TimeoutError("2 s passed"), "not loaded in time (2 s passed)"),
        ("load", ConnectionError("gone"), "store unreachable (gone)"),
        ("lookup", reprise.ResourceExhaustedError("RESOURCE_EXHAUSTED", "busy"), "refused (busy)"),
        ("load", MemoryError("no room\nfor it"), "MemoryError (no room for it)"),
        ("load", ValueError("shapes differ"), "ValueError (shapes differ)"),
    ],
)
def test_a_client_that_raises_costs_only_the_cache(
    engine: FakeEngine,
    said: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: Exception,
    reason: str,
) -> None:
    client = FakeClient()
    monkeypatch.setattr(client, method, raising(error))
    prefill = connector_of(engine, client).prefill(PROMPT)
    assert engine.batches == [(0, WHOLE), (WHOLE, WHOLE + 7)]
    assert prefill.shortfall == reason
    assert said.messages == [f"recomputing {WHOLE} tokens: {reason}"]


def test_a_state_that_llama_rejects_is_recomputed(engine: FakeEngine) -> None:
    engine.rejects_states = True
    prefill = connector_of(engine, FakeClient()).prefill(PROMPT)
    assert engine.batches == [(0, WHOLE), (WHOLE, WHOLE + 7)]
    assert prefill.loaded_chunks == 0
    assert "rejected" in prefill.shortfall


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("corrupt", "damaged bytes (layer 3)"),
        ("deadline", "not loaded in time (layer 3)"),
        ("other_namespace", "a piece of another namespace (layer 3)"),
        ("a_new_one", "a_new_one (layer 3)"),
    ],
)
def test_a_miss_is_told_with_its_reason(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, reason: str, text: str
) -> None:
    client = FakeClient()
    found = SimpleNamespace(chunks=0, miss=miss(reason, "layer 3"))
    monkeypatch.setattr(client, "lookup", lambda keys, timeout: found)
    assert connector_of(engine, client).prefill(PROMPT).shortfall == text


def test_a_store_that_cannot_be_reached_is_tried_again_after_a_pause(
    engine: FakeEngine, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(connector_module.time, "monotonic", lambda: now[0])
    attempts: list[float] = []
    blackholed = True

    def connect(timeout_s: float) -> FakeClient:
        attempts.append(now[0])
        if blackholed:
            now[0] += timeout_s
            raise TimeoutError("no answer")
        return FakeClient()

    connector = make_connector(engine, connect, load_timeout_s=2)
    assert connector.prefill(PROMPT).shortfall == "not loaded in time (no answer)"
    # The next prompts do not wait, until the pause is over: at first 1 s, then 2, at last 60.
    for _ in range(10):
        prefill = connector.prefill(PROMPT)
        assert prefill.shortfall == "store unreachable (no answer; next attempt in 1.0 s)"
    assert connector.publish().shortfall.startswith("store unreachable")
    assert (attempts, now[0]) == ([100.0], 102.0)
    for _ in range(10_000):
        now[0] += 0.1
        connector.prefill(PROMPT)
    waits = [later - earlier - 2 for earlier, later in pairwise(attempts)]
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, *[60] * (len(waits) - 6)], abs=0.11)
    assert len(attempts) < 30
    # Who opens it by hand does not wait.
    blackholed = False
    assert connector.open() == ""
    assert connector.prefill(PROMPT).loaded_chunks == 4


def test_the_load_timeout_covers_lookup_and_load_together(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, now = FakeClient(), [100.0]
    monkeypatch.setattr(connector_module.time, "monotonic", lambda: now[0])
    timeouts: list[float] = []
    lookup_seconds = [1.5, 2.0]

    def slow_lookup(keys: reprise.PrefixKeys, *, timeout: float) -> SimpleNamespace:
        timeouts.append(timeout)
        now[0] += lookup_seconds.pop(0)
        return SimpleNamespace(chunks=4, miss=None)

    load = client.load

    def timed_load(*arguments: object, timeout: float, **options: object) -> SimpleNamespace:
        timeouts.append(timeout)
        return load(*arguments, timeout=timeout, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(client, "lookup", slow_lookup)
    monkeypatch.setattr(client, "load", timed_load)
    assert connector_of(engine, client).prefill(PROMPT).loaded_chunks == 4
    assert timeouts == [2.0, 0.5]
    assert "in time" in connector_of(engine, client).prefill(PROMPT).shortfall


def test_a_prompt_without_a_whole_chunk_to_load_leaves_the_store_alone(engine: FakeEngine) -> None:
    connector = make_connector(engine, raising(AssertionError("asked for a connection")))
    prefill = connector.prefill(PROMPT[:CHUNK])
    assert (prefill.loaded_chunks, prefill.shortfall) == (0, "")
    assert engine.batches == [(0, CHUNK)]


def test_publishing_takes_the_whole_chunks(engine: FakeEngine) -> None:
    client = FakeClient(held=0)
    connector = connector_of(engine, client)
    assert "no whole chunk" in connector.publish().shortfall
    connector.prefill(PROMPT)
    engine.evaluate(PROMPT[:3], engine.token_count)
    publication = connector.publish()
    assert client.published == [(4, (SHAPE.layers, WHOLE, SHAPE.kv_heads, SHAPE.head_dim))]
    assert (publication.chunks, publication.bytes_sent, publication.shortfall) == (4, 4000, "")


def test_kv_on_a_lossy_prefix_is_not_published(engine: FakeEngine) -> None:
    client = FakeClient(held=2, lossless=False)
    connector = connector_of(engine, client)
    prefill = connector.prefill(PROMPT, level=2)
    assert (client.asked_level, prefill.level, prefill.lossless) == (2, 2, False)
    assert "below lossless" in connector.publish().shortfall
    client.lossless = True
    prefill = connector.prefill(PROMPT)
    assert (client.asked_level, prefill.level, prefill.lossless) == (None, 7, True)
    assert connector.publish().shortfall == ""
    assert len(client.published) == 1


def test_a_failed_publish_raises_nothing(
    engine: FakeEngine, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient()
    connector = connector_of(engine, client)
    connector.prefill(PROMPT)
    monkeypatch.setattr(client, "publish", raising(ConnectionError("gone")))
    assert connector.publish().shortfall == "store unreachable (gone)"
    assert said.messages == ["published nothing of 4 chunks: store unreachable (gone)"]


def test_closing_closes_the_client(engine: FakeEngine) -> None:
    client = FakeClient()
    connector = connector_of(engine, client)
    connector.close()
    assert not client.closed
    assert connector.open() == ""
    connector.close()
    assert client.closed


def test_whatever_changes_the_bits_is_in_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = namespace_of(FACTS)
    assert (namespace.model, namespace.kv_dtype, namespace.chunk_tokens) == ("tiny", "fp16", CHUNK)
    (group,) = namespace.groups
    assert (group.kind, list(group.layers), group.kv_heads) == ("full", [0, 1], 3)
    assert (group.key_dim, group.value_dim) == (4, 4)
    assert (group.layers_per_piece, group.heads_per_piece) == (2, 3)
    rope = dataclasses.replace(FACTS.rope, scaling="linear", scaling_parameters=(2.0,))
    others = [
        namespace_of(dataclasses.replace(FACTS, **{field: value}))
        for field, value in (
            ("name", "other"),
            ("revision", "cd" * 32),
            ("quantization", "Q4_1"),
            ("layers", 3),
            ("head_dim", 8),
            ("rope", rope),
        )
    ]
    others += [namespace_of(FACTS, tenant="other"), namespace_of(FACTS, chunk_tokens=128)]
    for name, value in (("VERSION", "1"), ("DISTRIBUTION", "other")):
        with monkeypatch.context() as patch:
            patch.setattr(connector_module.abi, name, value)
            others.append(namespace_of(FACTS))
    with monkeypatch.context() as patch:
        patch.setattr(connector_module.platform, "machine", lambda: "other")
        others.append(namespace_of(FACTS))
    rope = namespace_of(dataclasses.replace(FACTS, rope=rope)).groups[0].rope
    assert (rope.scaling, rope.scaling_parameters) == ("linear", [2.0])
    fingerprints = {other.fingerprint for other in (namespace, *others)}
    assert len(fingerprints) == len(others) + 1

"""Between an engine and a store: loads the KV of a prompt's prefix, publishes what was computed.

A prompt is always cut at the same place, its last whole chunk: KV before the cut is loaded as far
as the store has it and computed from there on, and the tokens behind it, at least one, are
evaluated as a batch of their own. Small batches round differently from large ones, so this cut, and
not what happened to be in the store, decides the bits: a request yields the same tokens whether
everything, a part or nothing was loaded.

Nothing that is wrong with the store, the network or the data reaches the engine's path. It costs at
most the load timeout, leaves a line in the log, and those tokens are recomputed.

Thread-safety: none; a connector belongs to its engine's thread.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import reprise
from numpy.typing import ArrayLike

from . import abi
from .engine import Engine, Tokens
from .model import ModelFacts, RopeFacts
from .state import Halves, SequenceState

CHUNK_TOKENS = 256

# Between attempts to connect, which may each take the whole load timeout.
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0

_LOG = logging.getLogger("reprise")

Views = tuple[Halves, Halves]


class StoreClient(Protocol):
    """The part of `reprise.Client` that is used here."""

    @property
    def carrier(self) -> str: ...

    def close(self) -> None: ...

    def lookup(self, keys: reprise.PrefixKeys, *, timeout: float) -> reprise.LookupResult: ...

    def load(
        self,
        keys: reprise.PrefixKeys,
        first: int,
        count: int,
        views: Views,
        *,
        level: int | None,
        expected: reprise.LookupResult,
        timeout: float,
    ) -> reprise.LoadResult: ...

    def publish(
        self,
        keys: reprise.PrefixKeys,
        chunk_count: int,
        views: Views,
        *,
        recompute_seconds_per_chunk: float,
        durable: bool,
        timeout: float,
    ) -> reprise.PublishResult: ...


@dataclass(frozen=True)
class Prefill:
    """What became of one prompt."""

    tokens: int
    loaded_chunks: int
    loaded_tokens: int
    bytes_received: int
    """Also those that came before a load failed."""
    level: int | None
    """The lowest that a chunk was loaded at; None if none was."""
    lossless: bool
    """Whether the engine stands on what was published, bit for bit."""
    carrier: str
    """"ucx" or "grpc"; empty if there was no connection."""
    shortfall: str
    """Why not every whole chunk was loaded, in one line; empty if every one was."""

    @property
    def computed_tokens(self) -> int:
        return self.tokens - self.loaded_tokens


@dataclass(frozen=True)
class Publication:
    """What became of one publish."""

    chunks: int
    """Whole chunks that the store holds now."""
    bytes_sent: int
    shortfall: str
    """Why nothing was published, in one line; empty if it was."""


@dataclass(frozen=True)
class Level:
    """What loading a prompt's chunks at one level takes."""

    piece_bytes: int
    key_distortion: float
    """Relative L2 error of the worst layer of any chunk."""
    value_distortion: float


@dataclass(frozen=True)
class _Loaded:
    chunks: int = 0
    bytes_received: int = 0
    level: int | None = None
    lossless: bool = True
    shortfall: str = ""


def namespace_of(
    facts: ModelFacts, *, tenant: str = "default", chunk_tokens: int = CHUNK_TOKENS
) -> reprise.Namespace:
    """The namespace of KV that a model computes on this build of llama.cpp.

    Another build, or the same for another kind of processor, rounds differently, so it is part of
    the revision. One piece holds a whole chunk: all layers and all KV heads.
    """
    group = reprise.LayerGroup(
        list(range(facts.layers)),
        kv_heads=facts.kv_heads,
        key_dim=facts.head_dim,
        value_dim=facts.head_dim,
        rope=_rope(facts.rope),
    )
    return reprise.Namespace(
        facts.name,
        groups=[group],
        kv_dtype="fp16",
        chunk_tokens=chunk_tokens,
        tenant=tenant,
        revision=f"gguf-sha256={facts.revision};{abi.DISTRIBUTION}={abi.VERSION};"
        f"machine={platform.machine()};flash-attention",
        weight_quantization=facts.quantization,
    )


def _rope(facts: RopeFacts) -> reprise.Rope:
    return reprise.Rope(
        facts.pairing,
        rotated_dims=facts.dimensions,
        theta=facts.frequency_base,
        scaling=facts.scaling,
        scaling_parameters=facts.scaling_parameters,
    )


def cut_of(token_count: int, chunk_tokens: int = CHUNK_TOKENS) -> int:
    """Where a prompt is cut: after its whole chunks, with at least one token left to evaluate."""
    return (token_count - 1) // chunk_tokens * chunk_tokens


class Connector:
    """Prefills one engine, through a store where that has something."""

    def __init__(
        self,
        engine: Engine,
        connect: Callable[[float], StoreClient],
        namespace: reprise.Namespace,
        *,
        tenant_secret: bytes = b"",
        load_timeout_s: float = 2.0,
        publish_timeout_s: float = 30.0,
    ) -> None:
        """`connect` is called with a timeout in seconds, at the first use and, after a pause that
        doubles, again as long as it raises; the client it returns reconnects by itself.

        `load_timeout_s` bounds everything that a prefill waits for: connection, lookup and load.
        """
        self._engine = engine
        self._connect = connect
        self._namespace = namespace
        self._secret = tenant_secret
        self._load_timeout_s = load_timeout_s
        self._publish_timeout_s = publish_timeout_s
        self._client: StoreClient | None = None
        self._pause_s = 0.0
        self._next_attempt = 0.0
        self._last_error = ""
        self._prompt: Tokens = np.empty(0, np.int32)
        self._lossless = True
        self._seconds_per_chunk = 0.0

    def open(self) -> str:
        """Connects ahead of the first request, whatever failed before. Returns why not, in one
        line; empty if connected.
        """
        try:
            self._next_attempt = 0.0
            self._connected(self._load_timeout_s)
        except Exception as error:
            return _reason_of_error(error)
        return ""

    def close(self) -> None:
        """Closes the connection, if there is one; the next request opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def prefill(self, tokens: ArrayLike, *, level: int | None = None) -> Prefill:
        """Replaces the engine's sequence by a prompt; the logits of its last token are there then.

        `level` is the highest to load: below the last one fewer bytes move, and what the engine
        computes on it is close to what it would be, not the same. Raises only what the engine
        raises for tokens it cannot evaluate.
        """
        prompt = np.asarray(tokens, np.int32)
        cut = cut_of(prompt.size, self._namespace.chunk_tokens)
        self._prompt = prompt[:0]
        loaded = self._load(prompt[:cut], level)
        loaded_tokens = loaded.chunks * self._namespace.chunk_tokens
        if loaded.chunks == 0:
            self._engine.clear()
        if loaded.shortfall:
            level = logging.INFO if loaded.shortfall == _REASONS["absent"] else logging.WARNING
            _LOG.log(level, "recomputing %d tokens: %s", cut - loaded_tokens, loaded.shortfall)
        started = time.perf_counter()
        if loaded_tokens < cut:
            self._engine.evaluate(prompt[loaded_tokens:cut], loaded_tokens)
            chunks = (cut - loaded_tokens) // self._namespace.chunk_tokens
            self._seconds_per_chunk = (time.perf_counter() - started) / chunks
        self._engine.evaluate(prompt[cut:], cut)
        self._prompt = prompt
        self._lossless = loaded.lossless
        return Prefill(
            tokens=prompt.size,
            loaded_chunks=loaded.chunks,
            loaded_tokens=loaded_tokens,
            bytes_received=loaded.bytes_received,
            level=loaded.level,
            lossless=loaded.lossless,
            carrier=self._client.carrier if self._client is not None else "",
            shortfall=loaded.shortfall,
        )

    def publish(self, *, durable: bool = False) -> Publication:
        """Stores the whole chunks of the prompt that was prefilled last.

        With `durable` they survive the store's process and power loss; a store without a disk
        refuses. The engine may have generated more since, but must still hold that prompt. Blocks
        for the publish timeout at most, and never raises. KV that stands on a prefix loaded below
        lossless is not published: it is not what the keys promise.
        """
        chunk_tokens = self._namespace.chunk_tokens
        chunks = self._prompt.size // chunk_tokens
        if chunks == 0:
            return Publication(0, 0, f"the prompt has no whole chunk of {chunk_tokens} tokens")
        if not self._lossless:
            return Publication(0, 0, "the prompt stands on KV that was loaded below lossless")
        try:
            deadline = time.monotonic() + self._publish_timeout_s
            client = self._connected(self._publish_timeout_s)
            result = client.publish(
                self._keys(self._prompt),
                chunks,
                self._engine.state_out(0, chunks * chunk_tokens),
                recompute_seconds_per_chunk=self._seconds_per_chunk,
                durable=durable,
                timeout=_left(deadline),
            )
        except Exception as error:
            reason = _reason_of_error(error)
            _LOG.warning("published nothing of %d chunks: %s", chunks, reason)
            return Publication(0, 0, reason)
        return Publication(chunks, result.bytes_sent, "")

    def levels(self, tokens: ArrayLike) -> list[Level]:
        """What the store holds of a prompt's whole chunks, at each level. Raises what the client
        does, LookupError if chunks are missing.
        """
        chunks = (
            cut_of(np.size(tokens), self._namespace.chunk_tokens) // self._namespace.chunk_tokens
        )
        found = self._look_up(tokens)
        if found.chunks < chunks:
            raise LookupError(f"the store has {found.chunks} of {chunks} chunks")
        return [
            Level(
                sum(piece.level_bytes[level] for piece in found.pieces),
                max(piece.distortions[level][0] for piece in found.pieces),
                max(piece.distortions[level][1] for piece in found.pieces),
            )
            for level in range(min(len(piece.level_bytes) for piece in found.pieces))
        ]

    def tiers(self, tokens: ArrayLike) -> set[str]:
        """Where the store would find what it holds of a prompt's whole chunks now; brings nothing
        nearer. Raises what the client does.
        """
        return {piece.tier for piece in self._look_up(tokens).pieces}

    def _look_up(self, tokens: ArrayLike) -> reprise.LookupResult:
        prompt = np.asarray(tokens, np.int32)
        keys = self._keys(prompt[: cut_of(prompt.size, self._namespace.chunk_tokens)])
        client = self._connected(self._load_timeout_s)
        return client.lookup(keys, timeout=self._load_timeout_s)

    def _connected(self, timeout_s: float) -> StoreClient:
        """The client. While a store is known to be unreachable, a prompt does not wait for it."""
        if self._client is not None:
            return self._client
        left = self._next_attempt - time.monotonic()
        if left > 0:
            raise ConnectionError(f"{self._last_error}; next attempt in {left:.1f} s")
        try:
            self._client = self._connect(timeout_s)
        except Exception as error:
            self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            self._next_attempt = time.monotonic() + self._pause_s
            self._last_error = _one_line(str(error))
            raise
        self._pause_s = 0.0
        return self._client

    def _keys(self, tokens: Tokens) -> reprise.PrefixKeys:
        ids = tokens.astype(np.uint32)
        return reprise.PrefixKeys(self._namespace, ids, tenant_secret=self._secret)

    def _load(self, prefix: Tokens, level: int | None) -> _Loaded:
        """Replaces the engine's sequence by as much of the prefix as comes in time, whole chunks
        only. Where that is nothing, what the engine holds is unspecified.
        """
        if prefix.size == 0:
            return _Loaded()
        try:
            return self._load_found(prefix, level, time.monotonic() + self._load_timeout_s)
        except Exception as error:
            # Whatever it is, the engine can still compute: only a cache is lost.
            return _Loaded(shortfall=_reason_of_error(error))

    def _load_found(self, prefix: Tokens, level: int | None, deadline: float) -> _Loaded:
        client = self._connected(_left(deadline))
        keys = self._keys(prefix)
        found = client.lookup(keys, timeout=_left(deadline))
        if found.chunks == 0:
            return _Loaded(shortfall=_reason_of_miss(found.miss))
        _LOG.info("found %d of %d chunks in the store", found.chunks, keys.chunk_count)
        state = self._engine.blank_state(found.chunks * self._namespace.chunk_tokens)
        loaded = client.load(
            keys,
            0,
            found.chunks,
            (state.keys, state.values),
            level=level,
            expected=found,
            timeout=_left(deadline),
        )
        self._take(state, loaded.chunks * self._namespace.chunk_tokens)
        miss = loaded.misses[0] if loaded.misses else found.miss
        return _Loaded(
            chunks=loaded.chunks,
            bytes_received=loaded.bytes_received,
            level=min((chunk.level for chunk in loaded.selections if chunk.complete), default=None),
            lossless=loaded.lossless,
            shortfall=_reason_of_miss(miss) if loaded.chunks < keys.chunk_count else "",
        )

    def _take(self, state: SequenceState, token_count: int) -> None:
        """Gives the engine the first tokens of a state; the rows behind them hold anything."""
        if token_count == 0:
            return
        if token_count < state.token_count:
            # Attention multiplies masked cells by zero, and a NaN survives that.
            for rows in state.tokens(token_count, state.token_count):
                rows[...] = 0
        self._engine.load(state)
        if token_count < state.token_count:
            self._engine.truncate(token_count)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("its time was used up before the store was asked")
    return left


_REASONS = {
    "absent": "not in the store",
    "other_content": "the store holds other content by now",
    "corrupt": "damaged bytes",
    "other_namespace": "a piece of another namespace",
    "truncated": "fewer bytes than promised",
    "unknown_format": "an encoding this client cannot read",
    "peer_lost": "store unreachable",
    "deadline": "not loaded in time",
    "refused": "refused by the store",
}


def _reason_of_miss(miss: reprise.Miss | None) -> str:
    if miss is None:
        return "the store gave no reason"
    reason = _REASONS.get(miss.reason, miss.reason)
    return reason if miss.reason == "absent" else f"{reason} ({_one_line(miss.detail)})"


def _reason_of_error(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"not loaded in time ({_one_line(str(error))})"
    if isinstance(error, ConnectionError):
        return f"store unreachable ({_one_line(str(error))})"
    if isinstance(error, reprise.RepriseError):
        return f"refused ({_one_line(str(error))})"
    return f"{type(error).__name__} ({_one_line(str(error))})"


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""A reference forward pass in numpy, float32 throughout, whose K, V and Q can be taken and given.

It exists so that KV is that of real models on real text, and so that a codec is scored by what
the model says next when it reads reconstructed KV. Checked against llama.cpp in model_test.py.

Thread-safety: a Model is immutable once loaded; calls may run in parallel (each uses all threads
of numpy's BLAS; OPENBLAS_NUM_THREADS limits them). Ownership: results belong to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.kv.attention import attend
from bench.kv.catalog import file_sha256, gguf_path
from bench.kv.decoder import Decoder, LayerWeights, read_decoder
from bench.kv.geometry import Geometry, Layer
from bench.kv.gguf_weights import GgufFile
from bench.kv.rope import rotate
from bench.kv.tokenizer import Tokenizer

Floats = NDArray[np.float32]
Tokens = NDArray[np.int32]
LayerKv = tuple[Floats, Floats]
"""K (post-RoPE) and V of one layer, each [positions, kv_heads, head_dim], from position 0 on."""


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What one layer computed; K and Q are post-RoPE, Q is without the 1 / sqrt(head_dim)."""

    k: Floats
    v: Floats
    q: Floats


@dataclass(frozen=True, eq=False)
class Trace:
    """One pass over a text from position 0 on."""

    tokens: Tokens
    layers: tuple[LayerTrace, ...]
    hidden: Floats
    """[tokens, width] after the last norm: what `Model.logits` takes."""

    def kv(self, count: int | None = None) -> list[LayerKv]:
        """K and V of the first `count` positions (default all), as `continue_from` takes them."""
        return [(layer.k[:count], layer.v[:count]) for layer in self.layers]


class Model:
    """A loaded model."""

    def __init__(self, name: str, path: Path) -> None:
        """Reads a GGUF file; `load` is the way to one of the bench's own models."""
        self.name = name
        self.path = path
        self._decoder: Decoder = read_decoder(GgufFile(path))

    @classmethod
    def load(cls, name: str) -> Self:
        """A model of bench.kv.catalog, from its installed package; LookupError if it is missing."""
        return cls(name, gguf_path(name))

    @property
    def geometry(self) -> Geometry:
        return self._decoder.geometry

    @property
    def vocabulary(self) -> int:
        return len(self._decoder.embedding)

    @cached_property
    def sha256(self) -> str:
        """Of the GGUF file, in hex: weights, tokenizer and metadata at once."""
        return file_sha256(self.path)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self.path)

    def tokenize(self, text: str) -> Tokens:
        """Token ids by llama.cpp, with the begin token if the model wants one."""
        return self._tokenizer.tokens(text)

    def prefill(self, tokens: ArrayLike) -> Trace:
        """Exact K, V and Q of `tokens` at positions 0 on; [tokens, heads, head_dim] each."""
        ids = self._checked(tokens)
        hidden, layers = self._run(ids, 0, None)
        return Trace(ids, tuple(layers), hidden)

    def continue_from(
        self, kv_per_layer: Sequence[LayerKv], first_position: int, tokens: ArrayLike
    ) -> Floats:
        """Logits [tokens, vocabulary] of teacher-forced `tokens` at `first_position` on.

        Attention reads the given K and V, reconstructed ones for example, for positions 0 to
        first_position - 1, and exact ones, computed on top of them, for the new tokens. Row i are
        the logits of what follows tokens[i]. For many tokens and a large vocabulary, `hidden_from`
        and `logits` in parts take less memory.
        """
        return self.logits(self.hidden_from(kv_per_layer, first_position, tokens))

    def hidden_from(
        self, kv_per_layer: Sequence[LayerKv], first_position: int, tokens: ArrayLike
    ) -> Floats:
        """As `continue_from`, but [tokens, width] before the output projection."""
        shape = (first_position, self.geometry.kv_heads, self.geometry.head_dim)
        if len(kv_per_layer) != len(self.geometry.layers):
            raise ValueError(f"KV of {len(kv_per_layer)} layers, not {len(self.geometry.layers)}")
        for index, (k, v) in enumerate(kv_per_layer):
            if k.shape != shape or v.shape != shape:
                raise ValueError(f"layer {index}: K {k.shape} and V {v.shape}, expected {shape}")
        hidden, _ = self._run(self._checked(tokens), first_position, kv_per_layer)
        return hidden

    def logits(self, hidden: Floats) -> Floats:
        """[rows, vocabulary] of rows of `Trace.hidden` or `hidden_from`."""
        return hidden @ self._decoder.embedding.T

    def _checked(self, tokens: ArrayLike) -> Tokens:
        ids = np.asarray(tokens, np.int32)
        if ids.ndim != 1 or ids.size == 0:
            raise ValueError(f"tokens are one non-empty row of ids, got shape {ids.shape}")
        if ids.min() < 0 or ids.max() >= self.vocabulary:
            raise ValueError(
                f"token ids are below {self.vocabulary}, got {ids.min()} to {ids.max()}"
            )
        return ids

    def _run(
        self, ids: Tokens, first_position: int, past: Sequence[LayerKv] | None
    ) -> tuple[Floats, list[LayerTrace]]:
        decoder = self._decoder
        stream = decoder.embedding[ids] * np.float32(decoder.embedding_scale)
        traces = []
        for index, weights in enumerate(decoder.layers):
            trace = self._project(stream, weights, self.geometry.layers[index], first_position)
            k, v = trace.k, trace.v
            if past is None:
                traces.append(trace)
            else:
                k, v = (np.concatenate(pair) for pair in zip(past[index], (k, v), strict=True))
            attended = attend(
                trace.q,
                k,
                v,
                first_position=first_position,
                window=self.geometry.layers[index].window,
                scale=self.geometry.head_dim**-0.5,
            )
            out = attended.reshape(len(ids), -1) @ weights.attention_out.T
            stream += self._normed(out, weights.attention_post_norm)
            stream += self._normed(self._feed_forward(stream, weights), weights.ffn_post_norm)
        return self._normed(stream, decoder.output_norm), traces

    def _project(
        self, stream: Floats, weights: LayerWeights, layer: Layer, first_position: int
    ) -> LayerTrace:
        rows = self._normed(stream, weights.attention_norm)
        shape = (len(rows), -1, self.geometry.head_dim)
        q = self._normed((rows @ weights.q.T).reshape(shape), weights.q_norm)
        k = self._normed((rows @ weights.k.T).reshape(shape), weights.k_norm)
        return LayerTrace(
            k=rotate(k, layer.rope, first_position),
            v=(rows @ weights.v.T).reshape(shape),
            q=rotate(q, layer.rope, first_position),
        )

    def _feed_forward(self, stream: Floats, weights: LayerWeights) -> Floats:
        rows = self._normed(stream, weights.ffn_norm)
        gate = _ACTIVATIONS[self._decoder.gate_activation](rows @ weights.gate.T)
        gate *= rows @ weights.up.T
        return gate @ weights.down.T

    def _normed(self, rows: Floats, weight: Floats | None) -> Floats:
        """RMS norm (Zhang and Sennrich, 2019, arXiv:1910.07467) over the last axis, if any."""
        if weight is None:
            return rows
        square = np.einsum("...i,...i->...", rows, rows)[..., None] / np.float32(rows.shape[-1])
        return rows / np.sqrt(square + np.float32(self._decoder.norm_epsilon)) * weight


def _silu(x: Floats) -> Floats:
    # exp overflows to infinity below -88, and x / infinity is the right limit.
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def _gelu_tanh(x: Floats) -> Floats:
    return 0.5 * x * (1 + np.tanh(np.float32(0.7978845608) * (x + 0.044715 * x * x * x)))


_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {"silu": _silu, "gelu_tanh": _gelu_tanh}

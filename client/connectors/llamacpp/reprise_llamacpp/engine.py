"""One llama.cpp model with one sequence: evaluate tokens, and take KV out or put it in.

KV moves in the shape Reprise carries, [layers, tokens, kv_heads, head_dim] of float16, exactly as
llama.cpp stores it. Loading the KV of a prefix and evaluating the rest gives the same logits, bit
for bit, as evaluating the prefix and then the rest.

Thread-safety: none; an engine belongs to one thread at a time. Every call blocks until it is done.
Ownership: the engine owns the model and the context until `close`; arrays it returns do not depend
on it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import abi
from .model import ModelFacts, read_facts
from .state import Halves, SequenceState

_SEQUENCE = 0
_LAST_TOKEN = -1

Tokens = NDArray[np.int32]


class Engine:
    """A loaded model, its context, and the KV of one sequence at positions 0 to token_count - 1."""

    def __init__(
        self,
        model_path: Path,
        *,
        context_tokens: int,
        threads: int | None = None,
        ubatch_tokens: int = 512,
    ) -> None:
        """Loads the model, and reads its file once more for its SHA-256.

        `context_tokens` bounds the sequence, prompt and answer together; llama.cpp rounds it up to
        a multiple of 256. `threads` defaults to the cores this process may use. `ubatch_tokens` is
        how many tokens one graph computes; it changes speed, not bits. Raises ValueError for a
        model whose KV is not carried and RuntimeError if llama.cpp cannot load it.
        """
        if context_tokens < 1 or ubatch_tokens < 1:
            raise ValueError(
                f"sizes are positive, got context {context_tokens}, ubatch {ubatch_tokens}"
            )
        self._lib = abi.library()
        self._context: int | None = None
        model = self._load_model(model_path)
        self._model: int | None = model
        try:
            self.facts: ModelFacts = read_facts(model, model_path)
            params = self._context_params(context_tokens, threads, ubatch_tokens)
            self._context = self._lib.llama_init_from_model(self._model, params)
            self._check_context(params)
        except BaseException:
            self.close()
            raise
        self._memory = self._lib.llama_get_memory(self._context)
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self._vocab_size = self._lib.llama_vocab_n_tokens(self._vocab)
        self._has_logits = False

    def close(self) -> None:
        """Frees context and model; the engine must not be used afterwards. May be called twice."""
        context, self._context = self._context, None
        model, self._model = self._model, None
        if context is not None:
            self._lib.llama_free(context)
        if model is not None:
            self._lib.llama_model_free(model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def context_tokens(self) -> int:
        """The longest sequence this engine holds."""
        return self._lib.llama_n_ctx(self._context)

    @property
    def token_count(self) -> int:
        """Tokens whose KV the engine holds."""
        return self._lib.llama_memory_seq_pos_max(self._memory, _SEQUENCE) + 1

    def tokenize(self, text: str) -> Tokens:
        """Token ids of a text. Special tokens are added and recognized as the model's file says."""
        data = text.encode()
        # A token covers at least one byte, except one that begins and one that ends a sequence.
        capacity = len(data) + 2
        tokens = np.empty(capacity, np.int32)
        count = self._lib.llama_tokenize(
            self._vocab, data, len(data), _token_pointer(tokens), capacity, True, True
        )
        if count < 0:
            raise RuntimeError(
                f"llama.cpp splits {len(data)} bytes into {-count} tokens, over {capacity}"
            )
        return tokens[:count]

    def text(self, tokens: ArrayLike) -> str:
        """The text of token ids, special tokens included; what is not UTF-8 is replaced."""
        ids = self._checked_tokens(tokens)
        text = np.empty(64 * (ids.size + 1), np.uint8)
        length = self._detokenize(ids, text)
        if length < 0:
            text = np.empty(-length, np.uint8)
            length = self._detokenize(ids, text)
        return text[:length].tobytes().decode(errors="replace")

    def evaluate(self, tokens: ArrayLike, start_position: int) -> None:
        """Computes the KV of `tokens`, from `start_position` on, and the logits of the last one.

        Raises ValueError, with nothing computed, unless the engine holds exactly that many
        tokens before and the context has room; RuntimeError if llama.cpp fails, and then the engine
        still holds those tokens.
        """
        ids = self._checked_tokens(tokens)
        if start_position != self.token_count:
            raise ValueError(
                f"evaluation starts at {start_position}, the engine holds {self.token_count} tokens"
            )
        if start_position + ids.size > self.context_tokens:
            raise ValueError(
                f"{start_position} + {ids.size} tokens are over the context, {self.context_tokens}"
            )
        positions = np.arange(start_position, start_position + ids.size, dtype=np.int32)
        batch = abi.Batch(
            n_tokens=ids.size, token=_token_pointer(ids), pos=_token_pointer(positions)
        )
        self._has_logits = False
        status = self._lib.llama_decode(self._context, batch)
        if status != 0:
            self.truncate(start_position)
            raise RuntimeError(
                f"llama_decode returned {status} for {ids.size} tokens at position {start_position}"
            )
        self._has_logits = True

    def logits(self) -> NDArray[np.float32]:
        """A copy of the logits of the last token evaluated, one per vocabulary entry.

        Raises ValueError if nothing was evaluated since the KV was last loaded, truncated or
        cleared.
        """
        if not self._has_logits:
            raise ValueError("there are no logits: evaluate at least one token first")
        pointer = self._lib.llama_get_logits_ith(self._context, _LAST_TOKEN)
        return np.ctypeslib.as_array(pointer, (self._vocab_size,)).copy()

    def greedy(self, count: int) -> list[int]:
        """The next `count` tokens, each the most likely one (the lowest id among equals).

        All but the last are evaluated, so the engine then holds count - 1 tokens more.
        """
        chosen: list[int] = []
        while len(chosen) < count:
            if chosen:
                self.evaluate(chosen[-1:], self.token_count)
            chosen.append(int(np.argmax(self.logits())))
        return chosen

    def clear(self) -> None:
        """Drops the whole sequence."""
        self._has_logits = False
        # True: the bytes go too. Attention multiplies what lies in free cells by zero, so a NaN
        # left by one request would reach the next.
        self._lib.llama_memory_clear(self._memory, True)

    def truncate(self, token_count: int) -> None:
        """Keeps the first `token_count` tokens. Raises ValueError if the engine holds fewer."""
        if not 0 <= token_count <= self.token_count:
            raise ValueError(f"cannot keep {token_count} of {self.token_count} tokens")
        self._has_logits = False
        if not self._lib.llama_memory_seq_rm(self._memory, _SEQUENCE, token_count, -1):
            raise RuntimeError(f"llama.cpp cannot drop the tokens from position {token_count}")

    def state(self) -> SequenceState:
        """The KV of the whole sequence: one copy out of llama.cpp; ranges of it are views.

        Raises ValueError if the engine holds no token.
        """
        size = self._lib.llama_state_seq_get_size(self._context, _SEQUENCE)
        blob = np.empty(size, np.uint8)
        written = self._lib.llama_state_seq_get_data(
            self._context, blob.ctypes.data, size, _SEQUENCE
        )
        if written != size:
            raise RuntimeError(
                f"llama.cpp wrote {written} bytes of a state it announced with {size}"
            )
        return SequenceState.parse(blob, self.facts.kv_shape)

    def state_out(self, begin: int, end: int) -> tuple[Halves, Halves]:
        """K and V of tokens [begin, end). Copies all tokens: for several ranges use `state`."""
        return self.state().tokens(begin, end)

    def blank_state(self, token_count: int) -> SequenceState:
        """A state of zeros in the shape of this model, for a fetch to fill before `load`."""
        return SequenceState.blank(self.facts.kv_shape, token_count)

    def load(self, state: SequenceState) -> None:
        """Replaces the sequence by `state`, whose blob llama.cpp copies.

        There are no logits until a token is evaluated. If only a first part of the state was
        filled, `truncate` to it next. Raises ValueError if the state is not of this model's shape
        or over the context, RuntimeError if llama.cpp rejects it; then the engine is empty.
        """
        # Its arrays are writable, so the frame around them is checked where C code will believe it.
        SequenceState.parse(state.blob, self.facts.kv_shape)
        if state.token_count > self.context_tokens:
            raise ValueError(
                f"{state.token_count} tokens are over the context of {self.context_tokens}"
            )
        # Also puts the search for free cells back to cell 0, where a prefix that was evaluated
        # would start.
        self.clear()
        blob = state.blob
        read = self._lib.llama_state_seq_set_data(
            self._context, blob.ctypes.data, blob.size, _SEQUENCE
        )
        if read != blob.size:
            self.clear()
            raise RuntimeError(
                f"llama.cpp rejected a state of {state.token_count} tokens ({blob.size} bytes)"
            )

    def state_in(self, keys: ArrayLike, values: ArrayLike) -> None:
        """Replaces the sequence by the K and V of its first tokens, as `state_out` returns them.

        Copies them into a blob; a fetch that writes into `blank_state` saves that copy. Raises
        ValueError unless both are float16 of the model's shape, and whatever `load` raises.
        """
        arrays = [np.asarray(array) for array in (keys, values)]
        shape = self.facts.kv_shape
        token_count = arrays[0].shape[1] if arrays[0].ndim == 4 else 0
        expected = (shape.layers, token_count, shape.kv_heads, shape.head_dim)
        for name, array in zip(("K", "V"), arrays, strict=True):
            if array.dtype != np.float16 or array.shape != expected:
                raise ValueError(
                    f"{name} is {array.dtype} {array.shape}, expected float16 {expected}"
                )
        state = self.blank_state(token_count)
        state.keys[...], state.values[...] = arrays
        self.load(state)

    def _load_model(self, path: Path) -> int:
        if not path.is_file():
            raise ValueError(f"there is no model file {path}")
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = 0
        model = self._lib.llama_model_load_from_file(os.fsencode(path), params)
        if model is None:
            raise RuntimeError(f"llama.cpp cannot load {path} (its log says why)")
        return model

    def _context_params(
        self, context_tokens: int, threads: int | None, ubatch_tokens: int
    ) -> abi.ContextParams:
        params = self._lib.llama_context_default_params()
        params.n_ctx = context_tokens
        params.n_batch = context_tokens
        params.n_ubatch = min(ubatch_tokens, context_tokens)
        params.n_threads = params.n_threads_batch = threads or len(os.sched_getaffinity(0))
        params.type_k = params.type_v = abi.GGML_TYPE_F16
        # Without flash attention V is stored transposed, and prefill is a quarter slower.
        params.flash_attn_type = abi.FLASH_ATTENTION_ON
        return params

    def _check_context(self, params: abi.ContextParams) -> None:
        """What was asked for must read back: the second guard on the struct layout."""
        context = self._context
        if context is None:
            raise RuntimeError(
                f"llama.cpp cannot create a context of {params.n_ctx} tokens (its log says why)"
            )
        found = {
            "n_ubatch": self._lib.llama_n_ubatch(context),
            "n_threads": self._lib.llama_n_threads(context),
            "n_threads_batch": self._lib.llama_n_threads_batch(context),
        }
        abi.check_fields(params, found)
        made = self._lib.llama_n_ctx(context)
        if made < params.n_ctx:
            raise RuntimeError(
                f"llama.cpp made a context of {made} tokens, asked for {params.n_ctx}"
            )

    def _checked_tokens(self, tokens: ArrayLike) -> Tokens:
        ids = np.ascontiguousarray(tokens, np.int32)
        if ids.ndim != 1 or ids.size == 0:
            raise ValueError(f"tokens are one non-empty row of ids, got shape {ids.shape}")
        if ids.min() < 0 or ids.max() >= self._vocab_size:
            raise ValueError(
                f"token ids are within [0, {self._vocab_size}), got {ids.min()} to {ids.max()}"
            )
        return ids

    def _detokenize(self, ids: Tokens, text: NDArray[np.uint8]) -> int:
        return self._lib.llama_detokenize(
            self._vocab, _token_pointer(ids), ids.size, text.ctypes.data, text.size, False, True
        )


def _token_pointer(ids: Tokens) -> object:
    return ids.ctypes.data_as(abi.POINTER(abi.Token))

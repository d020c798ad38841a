"""The C interface of llama.cpp, as one pinned wheel ships it.

The wheel is a single shared library that exports llama.cpp's public functions. They take and return
structs by value whose fields move between releases, and nothing in the library says which layout it
was built with. So the version is pinned, and `library()` refuses to hand out the functions until
the structs that llama.cpp itself filled with defaults read back as expected: a wrong layout ends in
an exception, not in a corrupted stack.

Thread-safety: `library()` may be called from any thread. What it returns follows llama.cpp's own
rule: one context is used by one thread at a time. ctypes releases the GIL during every call.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import logging
from collections.abc import Mapping
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_bool,
    c_char_p,
    c_float,
    c_int8,
    c_int32,
    c_size_t,
    c_uint32,
    c_void_p,
)
from pathlib import Path

DISTRIBUTION = "xllamacpp"
VERSION = "2026.10.11549"  # llama.cpp build 11549
SHARED_LIBRARY = "xllamacpp.abi3.so"

GGML_TYPE_F16 = 1
FLASH_ATTENTION_ON = 1
ROPE_PAIRINGS = {0: "interleaved", 2: "halves"}

_LOG = logging.getLogger("reprise.llamacpp")
_LOG_LEVELS = {3: logging.WARNING, 4: logging.ERROR}
_LOG_CONTINUES = 5

Token = c_int32
Position = c_int32
Sequence = c_int32


class ModelParams(ctypes.Structure):
    """llama_model_params of build 11549."""

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    )


class ContextParams(ctypes.Structure):
    """llama_context_params of build 11549."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    )


class Batch(ctypes.Structure):
    """llama_batch. A null `logits` asks for the logits of the last token only."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(Token)),
        ("embd", c_void_p),
        ("pos", POINTER(Position)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(Sequence))),
        ("logits", POINTER(c_int8)),
    )


_LogCallback = CFUNCTYPE(None, c_int32, c_char_p, c_void_p)

_PROTOTYPES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_batch_get_one": (Batch, (POINTER(Token), c_int32)),
    "llama_context_default_params": (ContextParams, ()),
    "llama_decode": (c_int32, (c_void_p, Batch)),
    "llama_detokenize": (
        c_int32,
        (c_void_p, POINTER(Token), c_int32, c_void_p, c_int32, c_bool, c_bool),
    ),
    "llama_free": (None, (c_void_p,)),
    "llama_ftype_name": (c_char_p, (c_int32,)),
    "llama_get_logits_ith": (POINTER(c_float), (c_void_p, c_int32)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_init_from_model": (c_void_p, (c_void_p, ContextParams)),
    "llama_log_set": (None, (_LogCallback, c_void_p)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_memory_seq_pos_max": (Position, (c_void_p, Sequence)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, Sequence, Position, Position)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_ftype": (c_int32, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_model_has_encoder": (c_bool, (c_void_p,)),
    "llama_model_is_hybrid": (c_bool, (c_void_p,)),
    "llama_model_is_recurrent": (c_bool, (c_void_p,)),
    "llama_model_load_from_file": (c_void_p, (c_char_p, ModelParams)),
    "llama_model_meta_val_str": (c_int32, (c_void_p, c_char_p, c_char_p, c_size_t)),
    "llama_model_n_ctx_train": (c_int32, (c_void_p,)),
    "llama_model_n_embd": (c_int32, (c_void_p,)),
    "llama_model_n_head": (c_int32, (c_void_p,)),
    "llama_model_n_head_kv": (c_int32, (c_void_p,)),
    "llama_model_n_layer": (c_int32, (c_void_p,)),
    "llama_model_n_swa": (c_int32, (c_void_p,)),
    "llama_model_rope_freq_scale_train": (c_float, (c_void_p,)),
    "llama_model_rope_type": (c_int32, (c_void_p,)),
    "llama_n_batch": (c_uint32, (c_void_p,)),
    "llama_n_ctx": (c_uint32, (c_void_p,)),
    "llama_n_threads": (c_int32, (c_void_p,)),
    "llama_n_threads_batch": (c_int32, (c_void_p,)),
    "llama_n_ubatch": (c_uint32, (c_void_p,)),
    "llama_state_seq_get_data": (c_size_t, (c_void_p, c_void_p, c_size_t, Sequence)),
    "llama_state_seq_get_size": (c_size_t, (c_void_p, Sequence)),
    "llama_state_seq_set_data": (c_size_t, (c_void_p, c_void_p, c_size_t, Sequence)),
    "llama_tokenize": (
        c_int32,
        (c_void_p, c_char_p, c_int32, POINTER(Token), c_int32, c_bool, c_bool),
    ),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
}

# Non-zero defaults from the first field to the last: each sits where a field added, removed or
# widened before it would move it.
_MODEL_DEFAULTS = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "use_extra_bufts": True,
    "load_mtp": False,
}
_CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_outputs_max_per_seq": 1,
    "rope_scaling_type": -1,
    "flash_attn_type": -1,
    "yarn_ext_factor": -1.0,
    "yarn_beta_slow": -1.0,
    "defrag_thold": -1.0,
    "type_k": GGML_TYPE_F16,
    "type_v": GGML_TYPE_F16,
    "moe_cache_size": 0,
    "embeddings": False,
    "offload_kqv": True,
    "op_offload": True,
    "swa_full": True,
    "kv_unified": False,
    "n_samplers": 0,
}


def check_fields(params: ctypes.Structure, expected: Mapping[str, float]) -> None:
    """Raises RuntimeError unless fields hold what llama.cpp is known to have in them."""
    for field, value in expected.items():
        found = getattr(params, field)
        if found != value:
            raise RuntimeError(
                f"{type(params).__name__}.{field} is {found} here, {value} in llama.cpp: the "
                f"library was built with another struct layout; install {DISTRIBUTION}=={VERSION}"
            )


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library with its prototypes set, checked and initialized; blocks while it loads.

    Raises RuntimeError if the pinned distribution is missing, of another version, cannot be loaded
    here, or lays its structs out differently.
    """
    lib = _load(_shared_library_path())
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    check_fields(lib.llama_model_default_params(), _MODEL_DEFAULTS)
    check_fields(lib.llama_context_default_params(), _CONTEXT_DEFAULTS)
    _check_batch(lib)
    lib.llama_log_set(_log_callback, None)
    lib.llama_backend_init()
    return lib


def _shared_library_path() -> Path:
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeError(f"no llama.cpp here: install {DISTRIBUTION}=={VERSION}") from None
    if distribution.version != VERSION:
        raise RuntimeError(
            f"{DISTRIBUTION} is {distribution.version}, but the struct layouts here are those of "
            f"{VERSION}: install {DISTRIBUTION}=={VERSION}"
        )
    for file in distribution.files or ():
        if file.name == SHARED_LIBRARY:
            return Path(str(distribution.locate_file(file)))
    raise RuntimeError(f"{DISTRIBUTION}=={VERSION} holds no {SHARED_LIBRARY}: reinstall it")


def _load(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        # The wheel does not bundle the OpenMP runtime, and slim images lack it.
        raise RuntimeError(
            f"{SHARED_LIBRARY} does not load ({error}); it needs libstdc++6 and libgomp1"
        ) from error


def _check_batch(lib: ctypes.CDLL) -> None:
    tokens = (Token * 3)()
    batch = lib.llama_batch_get_one(tokens, len(tokens))
    address = ctypes.cast(batch.token, c_void_p).value
    if batch.n_tokens != len(tokens) or address != ctypes.addressof(tokens):
        raise RuntimeError(
            f"llama_batch has another layout: {batch.n_tokens} tokens read where {len(tokens)} "
            f"were given; install {DISTRIBUTION}=={VERSION}"
        )


class _LogForwarder:
    """Sends llama.cpp's warnings and errors to Python's logging; the rest is progress chatter."""

    def __init__(self) -> None:
        self._level = 0

    def __call__(self, level: int, text: bytes, _user_data: int | None) -> None:
        if level != _LOG_CONTINUES:
            self._level = level
        if self._level in _LOG_LEVELS and text.strip():
            _LOG.log(_LOG_LEVELS[self._level], "%s", text.decode(errors="replace").rstrip())


# llama.cpp keeps the pointer for the life of the process, so this object must live as long.
_log_callback = _LogCallback(_LogForwarder())

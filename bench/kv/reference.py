"""llama.cpp's own logits and KV for a GGUF file: what the numpy forward is checked against.

llama.cpp rounds activations to 8 bits where weights are quantized, which is a coarser computation
than ours. So the check runs it on a copy of the file with every weight in float32, where both
compute the same function and differ by the order of sums and by its KV cache of fp16.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from ctypes import Structure
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.kv.gguf_weights import GgufFile
from bench.kv.tokenizer import connector_module

Floats = NDArray[np.float32]

_F32 = 0
_ALIGNMENT = 32
_SECTION = struct.Struct("<IIII")
_COUNTS = struct.Struct("<II")
_CELL = np.dtype([("position", "<i4"), ("sequences", "<u4"), ("sequence", "<i4")])
_LAYER_HEAD_BYTES = 12
_MAGIC_AND_SEQUENCE_BYTES = 8


@dataclass(frozen=True)
class CachedLayer:
    """K and V as the cache holds them, for the positions it still holds."""

    positions: NDArray[np.int32]
    k: Floats
    v: Floats


@dataclass(frozen=True)
class Answer:
    """What llama.cpp computed for one sequence."""

    logits: Floats
    layers: dict[int, CachedLayer]


def write_f32_copy(file: GgufFile, destination: Path) -> None:
    """The same metadata, byte for byte, and every tensor in float32."""
    infos, offset = bytearray(), 0
    for name, shape in file.shapes.items():
        infos += struct.pack("<Q", len(name.encode())) + name.encode()
        infos += struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        infos += struct.pack("<IQ", _F32, offset)
        offset += _aligned(4 * int(np.prod(shape)))
    with file.path.open("rb") as source, destination.open("wb") as out:
        out.write(source.read(file.metadata_bytes))
        out.write(infos)
        for name in file.shapes:
            out.seek(_aligned(out.tell()))
            out.write(np.ascontiguousarray(file.tensor(name)).data)


def _aligned(count: int) -> int:
    return -(-count // _ALIGNMENT) * _ALIGNMENT


def evaluate(path: Path, tokens: ArrayLike, kv_heads: int, caches: list[list[int]]) -> Answer:
    """Evaluates a whole sequence. `caches` are the layers of llama.cpp's KV caches in its order:
    full layers, then windowed ones if there are any.
    """
    abi = connector_module("abi")
    lib = abi.library()
    ids = np.ascontiguousarray(tokens, np.int32)
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if model is None:
        raise RuntimeError(f"llama.cpp cannot load {path}")
    context = None
    try:
        context = lib.llama_init_from_model(model, _context_params(abi, len(ids)))
        if context is None:
            raise RuntimeError(f"llama.cpp cannot create a context of {len(ids)} tokens")
        logits = _decode(abi, model, context, ids)
        size = lib.llama_state_seq_get_size(context, 0)
        blob = np.empty(size, np.uint8)
        lib.llama_state_seq_get_data(context, blob.ctypes.data, size, 0)
        return Answer(logits, dict(_cached_layers(blob.tobytes(), kv_heads, caches)))
    finally:
        if context is not None:
            lib.llama_free(context)
        lib.llama_model_free(model)


def _context_params(abi: ModuleType, tokens: int) -> Structure:
    params = abi.library().llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_outputs_max = params.n_outputs_max_per_seq = tokens
    params.n_threads = params.n_threads_batch = 2
    params.type_k = params.type_v = abi.GGML_TYPE_F16
    # Without flash attention V is cached transposed.
    params.flash_attn_type = abi.FLASH_ATTENTION_ON
    return params


def _decode(abi: ModuleType, model: int, context: int, ids: NDArray[np.int32]) -> Floats:
    lib = abi.library()
    positions, wanted = np.arange(len(ids), dtype=np.int32), np.ones(len(ids), np.int8)
    batch = abi.Batch(
        n_tokens=len(ids),
        token=ids.ctypes.data_as(abi.POINTER(abi.c_int32)),
        pos=positions.ctypes.data_as(abi.POINTER(abi.c_int32)),
        logits=wanted.ctypes.data_as(abi.POINTER(abi.c_int8)),
    )
    status = lib.llama_decode(context, batch)
    if status != 0:
        raise RuntimeError(f"llama_decode returned {status} for {len(ids)} tokens")
    width = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    rows = (lib.llama_get_logits_ith(context, row) for row in range(len(ids)))
    return np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in rows])


def _cached_layers(
    blob: bytes, kv_heads: int, caches: list[list[int]]
) -> Iterator[tuple[int, CachedLayer]]:
    """Layout of build 11549: see state.py of the connector; here once for every cache."""
    at = _MAGIC_AND_SEQUENCE_BYTES
    for layers in caches:
        _streams, cells = _COUNTS.unpack_from(blob, at)
        at += _COUNTS.size
        positions = np.frombuffer(blob, _CELL, cells, at)["position"]
        at += cells * _CELL.itemsize
        _transposed, count, *_rotations = _SECTION.unpack_from(blob, at)
        if count != len(layers):
            raise RuntimeError(f"llama.cpp wrote a cache of {count} layers, expected {len(layers)}")
        at += _SECTION.size
        rows: list[Floats] = []
        for _ in range(2 * count):
            (row_bytes,) = struct.unpack_from("<Q", blob, at + 4)
            at += _LAYER_HEAD_BYTES
            values = np.frombuffer(blob, "<f2", cells * row_bytes // 2, at)
            at += cells * row_bytes
            rows.append(values.reshape(cells, kv_heads, -1).astype(np.float32))
        for index, layer in enumerate(layers):
            yield layer, CachedLayer(positions, rows[index], rows[count + index])
    if at != len(blob):
        raise RuntimeError(f"{len(blob) - at} bytes of llama.cpp's state are left over")

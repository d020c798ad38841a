"""The two decoders of the KV bench as data: geometry and weights, read from GGUF.

Llama (Touvron et al., 2023, arXiv:2302.13971) and Gemma 3 (Gemma Team, 2025, arXiv:2503.19786)
differ in few places, and each is a field here. Immutable after loading; may be shared by threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.kv.geometry import Geometry, Layer, Rope
from bench.kv.gguf_weights import GgufFile

Floats = NDArray[np.float32]

# Gemma 3 repeats five windowed layers and a full one, and rotates K of windowed layers by another
# base; GGUF files made before these became metadata leave both to the reader, llama.cpp included.
GEMMA_FULL_EVERY = 6
GEMMA_WINDOW_THETA = 10_000.0


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One layer; matrices are [outputs, inputs]. A norm that the architecture lacks is None."""

    attention_norm: Floats
    q: Floats
    k: Floats
    v: Floats
    q_norm: Floats | None
    k_norm: Floats | None
    attention_out: Floats
    attention_post_norm: Floats | None
    ffn_norm: Floats
    gate: Floats
    up: Floats
    down: Floats
    ffn_post_norm: Floats | None


@dataclass(frozen=True, eq=False)
class Decoder:
    """A whole model."""

    geometry: Geometry
    layers: tuple[LayerWeights, ...]
    embedding: Floats
    """[vocabulary, width]; also the output projection, in both architectures here."""
    embedding_scale: float
    output_norm: Floats
    norm_epsilon: float
    gate_activation: str
    """"silu" or "gelu_tanh"."""


def read_decoder(file: GgufFile) -> Decoder:
    """Reads and dequantizes everything: seconds, and 4 bytes a parameter.

    Raises ValueError for an architecture other than "llama" and "gemma3".
    """
    if file.architecture not in ("llama", "gemma3"):
        raise ValueError(f"{file.path.name} is of architecture {file.architecture!r}, not covered")
    is_gemma = file.architecture == "gemma3"
    geometry = _gemma_geometry(file) if is_gemma else _llama_geometry(file)
    embedding = file.tensor("token_embd.weight")
    return Decoder(
        geometry=geometry,
        layers=tuple(_layer(file, index, is_gemma) for index in range(len(geometry.layers))),
        embedding=embedding,
        embedding_scale=float(np.sqrt(np.float32(embedding.shape[1]))) if is_gemma else 1.0,
        output_norm=file.tensor("output_norm.weight"),
        norm_epsilon=float(file.value("{arch}.attention.layer_norm_rms_epsilon")),
        gate_activation="gelu_tanh" if is_gemma else "silu",
    )


def _llama_geometry(file: GgufFile) -> Geometry:
    heads = int(file.value("{arch}.attention.head_count"))
    # The conversion to GGUF permutes the rows of Q and K so that pairs lie side by side.
    rope = Rope(
        theta=float(file.value("{arch}.rope.freq_base")),
        dims=int(file.value("{arch}.rope.dimension_count")),
        pairing="interleaved",
    )
    return Geometry(
        q_heads=heads,
        kv_heads=int(file.value("{arch}.attention.head_count_kv")),
        head_dim=int(file.value("{arch}.embedding_length")) // heads,
        layers=(Layer("full", None, rope),) * int(file.value("{arch}.block_count")),
    )


def _gemma_geometry(file: GgufFile) -> Geometry:
    head_dim = int(file.value("{arch}.attention.key_length"))
    full_theta = float(file.value("{arch}.rope.freq_base"))
    full = Layer("full", None, Rope(full_theta, head_dim, "halves"))
    window = int(file.value("{arch}.attention.sliding_window"))
    windowed = Layer("window", window, Rope(GEMMA_WINDOW_THETA, head_dim, "halves"))
    return Geometry(
        q_heads=int(file.value("{arch}.attention.head_count")),
        kv_heads=int(file.value("{arch}.attention.head_count_kv")),
        head_dim=head_dim,
        layers=tuple(
            full if index % GEMMA_FULL_EVERY == GEMMA_FULL_EVERY - 1 else windowed
            for index in range(int(file.value("{arch}.block_count")))
        ),
    )


def _layer(file: GgufFile, index: int, is_gemma: bool) -> LayerWeights:
    def weight(name: str) -> Floats:
        return file.tensor(f"blk.{index}.{name}.weight")

    def gemma_norm(name: str) -> Floats | None:
        return weight(name) if is_gemma else None

    return LayerWeights(
        attention_norm=weight("attn_norm"),
        q=weight("attn_q"),
        k=weight("attn_k"),
        v=weight("attn_v"),
        q_norm=gemma_norm("attn_q_norm"),
        k_norm=gemma_norm("attn_k_norm"),
        attention_out=weight("attn_output"),
        attention_post_norm=gemma_norm("post_attention_norm"),
        ffn_norm=weight("ffn_norm"),
        gate=weight("ffn_gate"),
        up=weight("ffn_up"),
        down=weight("ffn_down"),
        ffn_post_norm=gemma_norm("post_ffw_norm"),
    )

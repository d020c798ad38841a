"""What the model says next when it reads reconstructed KV: KL divergence and top-1 agreement.

Protocol: exact prefill of a prefix, its K and V coded and decoded, then teacher-forced tokens whose
own K and V are exact but computed on top of what was decoded. This is what a store does to a
request; it is far milder than coding inside the forward pass, and figures of the two never mix.
The reference reads the same K and V rounded to 16 bits, as an engine holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.kv.baselines.scheme import Dtype, Scheme, round16, site

if TYPE_CHECKING:  # reading models needs packages that reading this does not
    from bench.kv.model import LayerKv, Model, Tokens

Floats = NDArray[np.float32]

PREFIX_TOKENS = 1024
SCORED_TOKENS = 256
LOGIT_ROWS = 64
"""Rows of the vocabulary held at once: 64 of 262,144 floats are 64 MiB."""


@dataclass(frozen=True)
class Agreement:
    """Over all scored tokens of all texts: mean KL(exact || reconstructed) in nats, the share of
    tokens on which both rank the same token first, and how many tokens that were.
    """

    kl: float
    top1: float
    tokens: int


@dataclass(frozen=True, eq=False)
class Continuation:
    """A text cut in two: the exact 16-bit KV of its prefix, and what the model says after it."""

    kv: list[LayerKv]
    rest: Tokens
    exact_hidden: Floats


def cut(tokens: Tokens) -> tuple[Tokens, Tokens]:
    """A text's prefix and the tokens after it that are scored; ValueError for a shorter text."""
    end = PREFIX_TOKENS + SCORED_TOKENS
    if len(tokens) < end:
        raise ValueError(f"a text has {len(tokens)} tokens, fewer than {end}")
    return tokens[:PREFIX_TOKENS], tokens[PREFIX_TOKENS:end]


def continuation(model: Model, kv: Sequence[LayerKv], rest: Tokens, dtype: Dtype) -> Continuation:
    """`kv` is what an exact prefill gave, in float32: it is rounded to `dtype` here."""
    held = held_as(kv, dtype)
    return Continuation(held, rest, model.hidden_from(held, len(held[0][0]), rest))


def held_as(kv: Sequence[LayerKv], dtype: Dtype) -> list[LayerKv]:
    """As an engine holds it, and a scheme gets it."""
    return [(round16(k, dtype), round16(v, dtype)) for k, v in kv]


def agreements(model: Model, exact: Floats, others: Sequence[Floats]) -> list[Agreement]:
    """Of each of `others` with `exact`; all are hidden states [tokens, width] of the same tokens.

    All at once, because the exact logits of a large vocabulary cost as much as those compared.
    """
    divergence = np.zeros(len(others))
    agreed = np.zeros(len(others), np.int64)
    for begin in range(0, len(exact), LOGIT_ROWS):
        rows = slice(begin, begin + LOGIT_ROWS)
        logits = model.logits(exact[rows])
        p = softmax(logits)
        first = logits.argmax(axis=1)
        for index, other in enumerate(others):
            said = model.logits(other[rows])
            agreed[index] += (said.argmax(axis=1) == first).sum()
            divergence[index] += kl_divergence(p, logits, said).sum()
    count = len(exact)
    return [
        Agreement(float(kl) / count, float(same) / count, count)
        for kl, same in zip(divergence, agreed, strict=True)
    ]


def reconstructed(
    model: Model, kv: Sequence[LayerKv], dtype: Dtype, scheme: Scheme
) -> list[list[LayerKv]]:
    """The KV of a prefix from position 0 on, coded and decoded; one list of layers per level."""
    levels: list[list[LayerKv]] = [[] for _ in scheme.levels]
    for layer, (k, v) in enumerate(kv):
        k_results = scheme.encode_decode(k, site(model.geometry, layer, "k", dtype))
        v_results = scheme.encode_decode(v, site(model.geometry, layer, "v", dtype))
        for level, k_result, v_result in zip(levels, k_results, v_results, strict=True):
            pair = (k_result.reconstruction, v_result.reconstruction)
            level.append((round16(pair[0], dtype), round16(pair[1], dtype)))
    return levels


def softmax(logits: Floats) -> Floats:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


def kl_divergence(p: Floats, exact: Floats, other: Floats) -> NDArray[np.float64]:
    """Per row of logits, KL(softmax(exact) || softmax(other)) in nats; p is softmax(exact).

    With d = other - exact it is log E_p[e^d] - E_p[d]: no difference of large logarithms, so that
    float32 does for a KL of 1e-6.
    """
    d = other - exact
    d -= np.einsum("ij,ij->i", p, d)[:, None]
    return np.log1p(np.einsum("ij,ij->i", p, np.expm1(d, out=d)).astype(np.float64))

"""A prompt of 100 keys and values, then each key asked once: does the model still find its value?

Mean divergence hides what lookup shows: one wrong key in a hundred is one wrong answer. The list
is prefilled exactly, coded and decoded; the questions follow in one teacher-forced continuation, in
another order. A key is asked once, so its value can only come from the decoded list. An answer
counts when the model ranks every token of the value first, which is what greedy decoding would
have written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # reading models needs packages that reading this does not
    from bench.kv.model import LayerKv, Model, Tokens


KEYS = 100
_FIRST = ("amber", "bold", "calm", "dusty", "early", "fancy", "green", "happy", "icy", "jolly")
_SECOND = (
    *("anchor", "bridge", "candle", "dragon", "engine"),
    *("falcon", "garden", "hammer", "island", "jacket"),
)


@dataclass(frozen=True, eq=False)
class Lookup:
    """The exact float32 KV of the list, the questions, and where in them each value stands."""

    kv: list[LayerKv]
    questions: Tokens
    values: tuple[slice, ...]


def lookup(model: Model, seed: int = 100) -> Lookup:
    """The same prompt for every scheme."""
    random = np.random.default_rng(seed)
    names = [f"{first} {second}" for first in _FIRST for second in _SECOND]
    random.shuffle(names)
    codes = random.choice(np.arange(1000, 10000), KEYS, replace=False)
    lines = {name: f"{_stem(name)} {code}.\n" for name, code in zip(names, codes, strict=True)}
    listed = model.tokenize("Each item has a code.\n" + "".join(lines.values()))
    asked: list[int] = []
    values: list[slice] = []
    for name in random.permutation(names):
        stem, line = _tail(model, _stem(name)), _tail(model, lines[name])
        values.append(slice(len(asked) + len(stem), len(asked) + len(line) - 1))
        asked += line
    return Lookup(model.prefill(listed).kv(), np.asarray(asked, np.int32), tuple(values))


def accuracy(model: Model, prompt: Lookup, decoded: Sequence[LayerKv]) -> float:
    """The share of keys whose value comes out whole."""
    hidden = model.hidden_from(decoded, len(decoded[0][0]), prompt.questions)
    right = 0
    for value in prompt.values:
        # Row i holds the logits of what follows token i.
        said = model.logits(hidden[value.start - 1 : value.stop - 1]).argmax(axis=1)
        right += bool((said == prompt.questions[value]).all())
    return right / len(prompt.values)


def _stem(name: str) -> str:
    return f"The code of the {name} is"


def _tail(model: Model, text: str) -> list[int]:
    """Tokens of a text that continues another, so without a begin token."""
    begin = model.tokenize("\n")
    both = model.tokenize("\n" + text)
    return [int(token) for token in both[len(begin) :]]

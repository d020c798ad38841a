"""Measures every scheme on one model: attention error on a dump's texts, then what the model says.

Schemes that learn offline never learn from what they are scored on: for attention error they learn
from the dump's other texts, for decoding and lookup from all of the dump's texts, which are none of
those that are decoded.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.fidelity.decoding import (
    Agreement,
    Continuation,
    Floats,
    agreements,
    continuation,
    cut,
    held_as,
    reconstructed,
)
from bench.fidelity.lookup import Lookup, accuracy, lookup
from bench.fidelity.rows import OURS, Row, row
from bench.fidelity.schemes import schemes
from bench.fidelity.score import LevelScore, calibration_of, score_attention, split_texts
from bench.kv.baselines.scheme import Dtype, Scheme
from bench.kv.dumps import Dump, DumpText, load
from bench.kv.model import LayerKv, Model, Tokens
from bench.kv.texts import TEXTS

MakeSchemes = Callable[[], Sequence[Scheme]]


@dataclass(frozen=True)
class Task:
    """One dump, in these dtypes; `model` is what to run for decoding, None for attention alone."""

    directory: Path
    model: str | None
    dtypes: tuple[Dtype, ...]
    only: str
    """A word that names of schemes have."""


def measured_rows(task: Task) -> list[Row]:
    """Everything about one model."""

    def make() -> list[Scheme]:
        return [scheme for scheme in schemes() if task.only in scheme.name]

    def make_ours() -> list[Scheme]:
        return [scheme for scheme in make() if scheme.name.startswith(OURS)]

    dump = load(task.directory)
    asked = exam(Model.load(task.model), dump) if task.model else None
    rows: list[Row] = []
    for dtype in [dtype for dtype in task.dtypes if dtype in dump.dtypes]:
        measured = attention_rows(dump, dtype, make)
        if asked:
            # What a rival does to bf16 it does to fp16; ours is held to its claim on both.
            takers = make if dtype == task.dtypes[0] else make_ours
            measured = with_answers(measured, asked.held_as(dtype), dump, takers)
        rows += measured
    return rows


def attention_rows(dump: Dump, dtype: Dtype, make: MakeSchemes) -> list[Row]:
    """One row per scheme and level. Lossless schemes are sized on the first text alone: they have
    no error to average, and zstd -19 is slower than all the others together.
    """
    per_level: dict[tuple[str, str], list[LevelScore]] = {}
    for name in [text.name for text in dump.texts]:
        _tell(f"{dump.model} {dtype}: attention error on {name}")
        scored, others = split_texts(dump, name)
        schemes = [s for s in make() if scored is dump.texts[0] or not s.lossless]
        _fit(schemes, others, dtype)
        for levels in score_attention(scored, dtype, schemes):
            for score in levels:
                per_level.setdefault((score.scheme, score.level), []).append(score)
    return [row(dump.model, dtype, scores) for scores in per_level.values()]


def _fit(schemes: Sequence[Scheme], texts: Sequence[DumpText], dtype: Dtype) -> None:
    calibration = calibration_of(texts, dtype)
    for scheme in schemes:
        scheme.fit(calibration)
        scheme.learn(texts, dtype)


@dataclass(frozen=True, eq=False)
class Exam:
    """What a model is asked, from exact passes in float32; made once for all dtypes and schemes."""

    model: Model
    prefixes: list[list[LayerKv]]
    rests: list[Tokens]
    lookup: Lookup

    def held_as(self, dtype: Dtype) -> HeldExam:
        """With the exact answers for KV of one dtype."""
        texts = [
            continuation(self.model, kv, rest, dtype)
            for kv, rest in zip(self.prefixes, self.rests, strict=True)
        ]
        return HeldExam(self.model, dtype, texts, self.lookup, held_as(self.lookup.kv, dtype))


@dataclass(frozen=True, eq=False)
class HeldExam:
    """An exam whose KV is held in one 16-bit dtype."""

    model: Model
    dtype: Dtype
    texts: list[Continuation]
    lookup: Lookup
    listed: list[LayerKv]

    @property
    def exact_hidden(self) -> Floats:
        return np.concatenate([text.exact_hidden for text in self.texts])

    def taken_by(self, scheme: Scheme) -> list[tuple[Floats, float]]:
        """Per level of a fitted scheme, the hidden states of all scored tokens, in the order of
        exact_hidden, and the lookup accuracy.
        """
        coded = [reconstructed(self.model, text.kv, self.dtype, scheme) for text in self.texts]
        listed = reconstructed(self.model, self.listed, self.dtype, scheme)
        return [
            (
                np.concatenate(
                    [
                        self.model.hidden_from(kv[level], len(kv[level][0][0]), text.rest)
                        for kv, text in zip(coded, self.texts, strict=True)
                    ]
                ),
                accuracy(self.model, self.lookup, listed[level]),
            )
            for level in range(len(scheme.levels))
        ]


def exam(model: Model, dump: Dump) -> Exam:
    """Continuations of all known texts that the dump does not have, and the lookup prompt."""
    taken = {text.name for text in dump.texts}
    pairs = [cut(model.tokenize(text.content)) for text in TEXTS.values() if text.name not in taken]
    prefixes = [model.prefill(prefix).kv() for prefix, _ in pairs]
    return Exam(model, prefixes, [rest for _, rest in pairs], lookup(model))


def with_answers(rows: Sequence[Row], sat: HeldExam, dump: Dump, make: MakeSchemes) -> list[Row]:
    """`rows` of attention_rows, those of the schemes of `make` completed. Lossless schemes give
    the exact answers without sitting the exam.
    """
    schemes = [scheme for scheme in make() if not scheme.lossless]
    _fit(schemes, dump.texts, sat.dtype)
    answers: dict[tuple[str, str], tuple[Floats, float]] = {}
    for scheme in schemes:
        _tell(f"{sat.model.name} {sat.dtype}: exam of {scheme.name}")
        levels = sat.taken_by(scheme)
        answers |= {(scheme.name, n): a for n, a in zip(scheme.levels, levels, strict=True)}
    exact = sat.exact_hidden
    found = agreements(sat.model, exact, [hidden for hidden, _ in answers.values()])
    marks = {
        place: _marks(agreement, right)
        for (place, (_, right)), agreement in zip(answers.items(), found, strict=True)
    }
    perfect = _marks(Agreement(0.0, 1.0, len(exact)), accuracy(sat.model, sat.lookup, sat.listed))
    return [
        dataclasses.replace(
            row, **(perfect if row.lossless else marks.get((row.scheme, row.level), {}))
        )
        for row in rows
    ]


def _marks(found: Agreement, lookup_accuracy: float) -> dict[str, float | int]:
    return {
        "kl": found.kl,
        "top1": found.top1,
        "scored_tokens": found.tokens,
        "lookup": lookup_accuracy,
    }


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)

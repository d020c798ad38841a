"""The numpy forward against llama.cpp on the same weights, and against itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("gguf", reason="the gguf package is missing: tools/requirements-bench.txt")

from bench.kv.geometry import Geometry, Layer, Rope
from bench.kv.gguf_weights import GgufFile
from bench.kv.model import Model
from bench.kv.reference import evaluate, write_f32_copy
from bench.kv.texts import text
from bench.kv.tokenizer import connector_module

TOKENS = 640
"""More than Gemma's window of 512."""


@pytest.fixture(scope="module", params=["smollm2", "gemma3"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    try:
        connector_module("abi").library()
        yield Model.load(request.param)
    except (LookupError, RuntimeError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tokens(model: Model) -> NDArray[np.int32]:
    return model.tokenize(text("licence-gpl3").content)[:TOKENS]


def test_agrees_with_llama_cpp(model: Model, tokens: NDArray[np.int32], tmp_path: Path) -> None:
    trace = model.prefill(tokens)
    kinds = [layer.kind for layer in model.geometry.layers]
    caches = [[i for i, kind in enumerate(kinds) if kind == of] for of in ("full", "window")]
    copy = tmp_path / "f32.gguf"
    try:
        write_f32_copy(GgufFile(model.path), copy)
        theirs = evaluate(copy, tokens, model.geometry.kv_heads, [c for c in caches if c])
    finally:
        copy.unlink(missing_ok=True)  # pytest would keep a gigabyte
    ours = model.logits(trace.hidden)
    assert (ours.argmax(axis=1) == theirs.logits.argmax(axis=1)).mean() >= 0.995
    assert kl(theirs.logits, ours).mean() < 1e-5
    assert sorted(theirs.layers) == list(range(len(model.geometry.layers)))
    for index, cached in theirs.layers.items():
        for name in ("k", "v"):
            exact = getattr(trace.layers[index], name)[cached.positions]
            # 2^-12 is what fp16 costs; a wrong pairing or base would be of order one.
            assert relative_error(getattr(cached, name), exact) < 2e-3, (index, name)


def test_continuing_from_exact_kv_changes_nothing(model: Model, tokens: NDArray[np.int32]) -> None:
    whole = model.prefill(tokens)
    for first in (1, 100, 600):
        hidden = model.hidden_from(whole.kv(first), first, tokens[first:])
        assert relative_error(hidden, whole.hidden[first:]) < 1e-5


def test_a_damaged_prefix_is_read(model: Model, tokens: NDArray[np.int32]) -> None:
    whole = model.prefill(tokens[:200])
    damaged = [(k, np.zeros_like(v)) for k, v in whole.kv(150)]
    logits = model.continue_from(damaged, 150, tokens[150:200])
    assert logits.shape == (50, model.vocabulary)
    assert kl(model.logits(whole.hidden[150:]), logits).mean() > 0.1


def test_shapes_and_tokens_are_checked(model: Model, tokens: NDArray[np.int32]) -> None:
    kv = model.prefill(tokens[:8]).kv()
    with pytest.raises(ValueError, match="layers"):
        model.continue_from(kv[1:], 8, tokens[8:10])
    with pytest.raises(ValueError, match="layer 0"):
        model.continue_from(kv, 9, tokens[9:10])
    with pytest.raises(ValueError, match="token ids"):
        model.prefill([model.vocabulary])
    with pytest.raises(ValueError, match="non-empty"):
        model.prefill([])


def test_geometry_is_that_of_the_published_models(model: Model) -> None:
    full = Layer("full", None, Rope(100_000.0, 64, "interleaved"))
    gemma_full = Layer("full", None, Rope(1_000_000.0, 256, "halves"))
    window = Layer("window", 512, Rope(10_000.0, 256, "halves"))
    expected = {
        "smollm2": Geometry(9, 3, 64, (full,) * 30),
        "gemma3": Geometry(4, 1, 256, ((window,) * 5 + (gemma_full,)) * 3),
    }
    assert model.geometry == expected[model.name]


def kl(theirs: NDArray[np.float32], ours: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row by row: two whole arrays of Gemma's logits in double would be 3 GB."""
    return np.array([_kl_of_row(*rows) for rows in zip(theirs, ours, strict=True)])


def _kl_of_row(theirs: NDArray[np.float32], ours: NDArray[np.float32]) -> float:
    a, b = (row.astype(np.float64) - row.max() for row in (theirs, ours))
    a, b = (row - np.log(np.exp(row).sum()) for row in (a, b))
    return float((np.exp(a) * (a - b)).sum())


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))

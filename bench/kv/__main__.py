"""python -m bench.kv dump: K, V and Q of a real model on real texts, as files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.kv import dumps
from bench.kv.catalog import MODELS
from bench.kv.dump_writer import write_manifest, write_text, write_token_ids
from bench.kv.model import Model, Tokens
from bench.kv.rounding import DTYPES
from bench.kv.texts import TEXTS, Text, text


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (LookupError, ValueError, RuntimeError) as error:
        print(f"bench.kv: {error.args[0]}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.kv", description=__doc__)
    commands = parser.add_subparsers(required=True)
    dump = commands.add_parser("dump", help="writes a dump, as docs/kv-dump.md describes")
    dump.add_argument("--model", required=True, choices=list(MODELS))
    dump.add_argument("--out", required=True, type=Path, help="a directory, made if need be")
    dump.add_argument("--tokens", type=int, default=4096, help="of each text (default 4096)")
    dump.add_argument(
        "--texts", nargs="+", default=list(TEXTS)[:3], metavar="NAME", help="default: three"
    )
    dump.add_argument("--dtypes", default=",".join(DTYPES), help="default: bf16,fp16")
    dump.set_defaults(run=_dump)
    tokens = commands.add_parser("tokens", help="adds token ids to a dump of ours without them")
    tokens.add_argument("dump", type=Path, help="its directory")
    tokens.set_defaults(run=_add_tokens)
    texts = commands.add_parser("texts", help="lists the texts")
    texts.set_defaults(run=_list_texts)
    return parser


def _dump(options: argparse.Namespace) -> None:
    dtypes = tuple(options.dtypes.split(","))
    if unknown := set(dtypes) - set(DTYPES):
        raise ValueError(f"unknown dtypes {sorted(unknown)}; known: {', '.join(DTYPES)}")
    if options.tokens < 1:
        raise ValueError(f"--tokens must be positive, got {options.tokens}")
    if (options.out / dumps.MANIFEST).exists():
        raise ValueError(f"{options.out} holds a dump already: remove it, or name another place")
    chosen = [text(name) for name in dict.fromkeys(options.texts)]
    model = Model.load(options.model)
    tokens = [_beginning(model, entry, options.tokens) for entry in chosen]
    entries = []
    for entry, ids in zip(chosen, tokens, strict=True):
        print(f"{model.name}: {entry.name}, {len(ids)} tokens", file=sys.stderr)
        layers = [{"k": layer.k, "v": layer.v, "q": layer.q} for layer in model.prefill(ids).layers]
        entries.append(write_text(options.out, entry.name, entry.sha256, layers, dtypes))
        write_token_ids(options.out / entry.name, ids)
    write_manifest(
        options.out,
        model=model.name,
        model_sha256=model.sha256,
        geometry=model.geometry,
        texts=entries,
    )
    dumps.load(options.out)


def _add_tokens(options: argparse.Namespace) -> None:
    dump = dumps.load(options.dump)
    if dump.model not in MODELS:
        raise ValueError(f"{options.dump} is of the model {dump.model}; known: {', '.join(MODELS)}")
    model = Model.load(dump.model)
    for entry in dump.texts:
        known = text(entry.name)
        if (known.sha256, model.sha256) != (entry.sha256, dump.model_sha256):
            raise ValueError(f"{options.dump}: {entry.name} is another text or model than here")
        write_token_ids(entry.folder, _beginning(model, known, entry.tokens))


def _beginning(model: Model, entry: Text, count: int) -> Tokens:
    tokens = model.tokenize(entry.content)
    if len(tokens) < count:
        raise ValueError(f"{entry.name} has {len(tokens)} tokens for {model.name}, {count} wanted")
    return tokens[:count]


def _list_texts(_options: argparse.Namespace) -> None:
    for entry in TEXTS.values():
        length = f"{len(entry.content):7} characters"
        print(f"{entry.name:16} {entry.sha256}  {length}, {entry.kind}")


if __name__ == "__main__":
    sys.exit(main())

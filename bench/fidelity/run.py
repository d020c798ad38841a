"""Bits per value against what they cost in fidelity: Reprise's codec and every baseline.

For each scheme and level: relative L2 error of the attention output (mean and worst layer, real
queries, dumps of 4,096 tokens of three texts); KL and top-1 agreement over 256 teacher-forced
tokens on each of eight other texts after an exact prefill of 1,024 tokens; a 100-key lookup. Rows
go to build/bench/fidelity/rows.json; --docs writes the tables and plots of docs/codec.md from them.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.fidelity.comparison import figures
from bench.fidelity.measure import Task, measured_rows
from bench.fidelity.pages import write_docs
from bench.fidelity.rows import Row, merged, read_rows, write_rows
from bench.harness.report import Bench
from bench.kv.__main__ import main as kv
from bench.kv.catalog import MODELS
from bench.kv.dumps import MANIFEST
from bench.kv.rounding import DTYPES


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument(
        "--dumps", type=Path, metavar="DIR", help="holds DIR/MODEL; made if need be (build/kv)"
    )
    parser.add_argument(
        "--foreign", nargs="+", type=Path, default=[], metavar="DIR", help="dumps made elsewhere"
    )
    parser.add_argument("--only", default="", metavar="WORD", help="schemes whose name has WORD")
    parser.add_argument(
        "--merge", action="store_true", help="keep rows of rows.json that are not measured now"
    )
    parser.add_argument("--jobs", type=int, default=2, help="models at once (default 2)")
    parser.add_argument("--no-decoding", action="store_true", help="attention error alone")
    parser.add_argument("--docs", action="store_true", help="writes docs/codec-*.png and tables")
    parser.add_argument("--reuse", action="store_true", help="measure nothing: rows.json again")


def main(bench: Bench) -> None:
    options = bench.options
    path = bench.root / "build" / "bench" / "fidelity" / "rows.json"
    if options.reuse:
        rows = read_rows(path)
    else:
        rows = _measured(options, options.dumps or bench.root / "build" / "kv")
        if options.merge and path.exists():
            rows = merged(read_rows(path), rows)
        write_rows(path, rows)
    # Without our own codec among the rows there is nothing to conclude.
    for name, value in figures(rows).items():
        bench.sample(name, value, "x")
    if options.docs:
        write_docs(bench.root / "docs", rows)


def _measured(options: argparse.Namespace, folder: Path) -> list[Row]:
    for name in options.models:
        _make_dump(folder / name, name)
    common = {"dtypes": tuple(options.dtypes), "only": options.only}
    tasks = [
        Task(folder / name, None if options.no_decoding else name, **common)
        for name in options.models
    ]
    tasks += [Task(directory, None, **common) for directory in options.foreign]
    # One process per model: they share nothing, and each runs one thread of BLAS.
    with ProcessPoolExecutor(options.jobs) as pool:
        return [row for rows in pool.map(measured_rows, tasks) for row in rows]


def _make_dump(directory: Path, model: str) -> None:
    if not (directory / MANIFEST).exists():
        print(f"making a dump of {model} in {directory}", file=sys.stderr)
        if kv(["dump", "--model", model, "--out", str(directory)]) != 0:
            raise SystemExit(f"no dump of {model}")

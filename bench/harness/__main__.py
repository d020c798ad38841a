"""./dev bench: runs bench/NAME/run.py; "all" runs every one and writes docs/results.md."""

from __future__ import annotations

import argparse
import json
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.harness.machine import commit, machine
from bench.harness.report import Bench, Circumstances
from bench.harness.table import results_page, terminal_table
from bench.harness.targets import read_targets

ROOT = Path(__file__).resolve().parents[2]


def benchmarks() -> list[str]:
    """The names of the benchmarks that exist."""
    return sorted(path.parent.name for path in (ROOT / "bench").glob("*/run.py"))


def run_one(name: str, arguments: list[str]) -> int:
    """Runs one benchmark in this process."""
    module = runpy.run_path(str(ROOT / "bench" / name / "run.py"))
    parser = argparse.ArgumentParser(prog=f"./dev bench {name}", description=module["__doc__"])
    parser.add_argument(
        "--json", action="store_true", help="samples and figures as JSON lines on stdout"
    )
    if "add_options" in module:
        module["add_options"](parser)
    options = parser.parse_args(arguments)

    def emit(line: dict[str, Any]) -> None:
        if options.json:
            print(json.dumps(line), flush=True)
        elif "figures" in line:
            print(terminal_table(line))
        else:
            print(" ".join(f"{key}={value}" for key, value in line.items()), file=sys.stderr)

    command = shlex.join(["./dev", "bench", name, *arguments])
    bench = Bench(
        name,
        read_targets().get(name, {}),
        Circumstances(machine(), commit(ROOT), command),
        emit,
        root=ROOT,
        options=options,
    )
    module["main"](bench)
    bench.finish()
    return 0


def run_all() -> int:
    """Runs every benchmark in a process of its own; one that fails is reported and left out of the
    page.
    """
    lines, failed = [], []
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    for name in benchmarks():
        print(f"== {name}", file=sys.stderr)
        run = subprocess.run(
            [sys.executable, "-m", "bench.harness", name, "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        (folder / f"{name}.jsonl").write_text(run.stdout)
        if run.returncode == 0:
            lines.append(json.loads(run.stdout.splitlines()[-1]))
            print(terminal_table(lines[-1]), end="\n\n")
        else:
            failed.append(name)
    page = ROOT / "docs" / "results.md"
    page.write_text(results_page(read_targets(), lines))
    print(f"wrote {page.relative_to(ROOT)}; raw samples are in {folder.relative_to(ROOT)}/")
    for name in failed:
        print(f"bench {name} failed; it is shown as not measured", file=sys.stderr)
    return 1 if failed else 0


def main() -> int:
    name, arguments = sys.argv[1], sys.argv[2:]
    if name == "all" and not arguments:
        return run_all()
    if name in benchmarks():
        return run_one(name, arguments)
    known = ", ".join(benchmarks()) or "none yet"
    if name == "--list":
        print("\n".join(benchmarks()))
        return 0
    print(f"usage: ./dev bench NAME [--json] | all | --list; benchmarks: {known}", file=sys.stderr)
    return 0 if name == "--help" else 2


if __name__ == "__main__":
    sys.exit(main())

"""./dev bench: runs bench/NAME/run.py; "all" runs them and writes docs/results.md."""

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


def run_all(names: list[str]) -> int:
    """Runs these benchmarks, each in a process of its own, and writes the page from the last runs
    of all. One that fails is reported and left out of the page.
    """
    failed = []
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"== {name}", file=sys.stderr)
        run = subprocess.run(
            [sys.executable, "-m", "bench.harness", name, "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        (folder / f"{name}.jsonl").write_text(run.stdout)
        if run.returncode != 0:
            failed.append(name)
    lines = last_lines(folder)
    for line in lines:
        if line["bench"] in names:
            print(terminal_table(line), end="\n\n")
    page = ROOT / "docs" / "results.md"
    page.write_text(results_page(read_targets(), lines))
    print(f"wrote {page.relative_to(ROOT)}; raw samples are in {folder.relative_to(ROOT)}/")
    for name in failed:
        print(f"bench {name} failed; it is shown as not measured", file=sys.stderr)
    return 1 if failed else 0


def last_lines(folder: Path) -> list[dict[str, Any]]:
    """The figures of the benchmarks that ran to their end and kept their samples there."""
    found = []
    for name in benchmarks():
        file = folder / f"{name}.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        if lines and "figures" in (last := json.loads(lines[-1])):
            found.append(last)
    return found


def main() -> int:
    name, arguments = sys.argv[1], sys.argv[2:]
    if name == "all" and set(arguments) <= set(benchmarks()):
        return run_all(arguments or benchmarks())
    if name in benchmarks():
        return run_one(name, arguments)
    known = ", ".join(benchmarks()) or "none yet"
    if name == "--list":
        print("\n".join(benchmarks()))
        return 0
    print(
        f"usage: ./dev bench NAME [--json] | all [NAME...] | --list; benchmarks: {known}",
        file=sys.stderr,
    )
    return 0 if name == "--help" else 2


if __name__ == "__main__":
    sys.exit(main())

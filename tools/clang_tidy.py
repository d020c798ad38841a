"""Runs clang-tidy on the C++ files that have changed since they were last clean.

A file's state is the hash of .clang-tidy, its own text and the text of every header of the tree it
includes, directly or not; build/check/ remembers the states that were clean. Needs the compile
commands of build/release. Exits 1 when clang-tidy complains.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "release"
CLEAN = ROOT / "build" / "check"

_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def closure(source: Path) -> list[Path]:
    """The file and every file of the tree that it includes, in the order they were found."""
    found: dict[Path, None] = {}
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found[path] = None
        waiting += [ROOT / name for name in _INCLUDE.findall(path.read_text())]
    return list(found)


def state(source: Path) -> str:
    digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes())
    for path in sorted(closure(source)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def sources() -> list[Path]:
    """The files that build/release compiles from this tree, generated ones excepted."""
    commands = json.loads((BUILD / "compile_commands.json").read_text())
    files = {Path(command["file"]) for command in commands}
    return sorted(file for file in files if ROOT in file.parents and BUILD not in file.parents)


def tidy(source: Path) -> str:
    """What clang-tidy says of one file; empty when it is clean."""
    mark = CLEAN / state(source)
    if mark.exists():
        return ""
    command = ["clang-tidy", "--quiet", "-p", str(BUILD), str(source)]
    command.append("--extra-arg=-Wno-unknown-warning-option")
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode == 0:
        mark.touch()
        return ""
    return run.stdout or run.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="how many files at once (default 1)")
    options = parser.parse_args()
    CLEAN.mkdir(parents=True, exist_ok=True)
    complained = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for complaint in pool.map(tidy, sources()):
            complained += bool(complaint)
            sys.stderr.write(complaint)
    return 1 if complained else 0


if __name__ == "__main__":
    sys.exit(main())

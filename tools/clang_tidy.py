"""Runs clang-tidy on the C++ files that have changed since they were last clean.

A file's state is the hash of .clang-tidy, its own text and the text of every header of the tree it
includes, directly or not; build/check/ remembers the states that were clean. Needs the compile
commands of build/release. Says every few seconds how far it is. Exits 1 when clang-tidy complains,
130 when it is interrupted: what was clean by then stays so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "release"
CLEAN = ROOT / "build" / "check"

_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
# Where one complaint ends and the next begins: "path:line:column: error: ...".
_COMPLAINT = re.compile(r"^(?=\S+:\d+:\d+: (?:warning|error): )", re.MULTILINE)
# For the estimate only: what a file takes on one core of a small cloud machine.
_SECONDS_PER_FILE = 7
_SHOW_EVERY_S = 10.0


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


def complaints(said: str) -> list[str]:
    """One text for each complaint, with its notes; a text without any is one of its own."""
    return [part for part in _COMPLAINT.split(said) if part.strip()]


def tidy(source: Path, mark: Path) -> str:
    """What clang-tidy says of one file; empty when it is clean."""
    command = ["clang-tidy", "--quiet", "-p", str(BUILD), str(source)]
    command.append("--extra-arg=-Wno-unknown-warning-option")
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode == 0:
        mark.touch()
        return ""
    return run.stdout or run.stderr or f"{source}: clang-tidy ended with {run.returncode}\n"


class Progress:
    """Says how far the run is, at most once in _SHOW_EVERY_S."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = self._shown = time.monotonic()

    def show(self, done: int, said: int) -> None:
        now = time.monotonic()
        if now - self._shown < _SHOW_EVERY_S:
            return
        self._shown = now
        seconds = int(now - self._started)
        print(
            f"   {seconds:3} s  {done} of {self._total} files, {said} complaints", file=sys.stderr
        )


def check(waiting: dict[Path, Path], jobs: int) -> int:
    """Runs clang-tidy on each file; returns how many different complaints there are."""
    # A header's complaint comes back with every file that includes it; once is enough.
    said: set[str] = set()
    progress = Progress(len(waiting))
    pool = ThreadPoolExecutor(jobs)
    try:
        running = [pool.submit(tidy, source, mark) for source, mark in waiting.items()]
        for done, one in enumerate(as_completed(running), 1):
            for complaint in complaints(one.result()):
                if complaint not in said:
                    said.add(complaint)
                    sys.stderr.write(complaint if complaint.endswith("\n") else complaint + "\n")
            progress.show(done, len(said))
    finally:
        pool.shutdown(cancel_futures=True)
    return len(said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="how many files at once (default 1)")
    parser.add_argument("only", nargs="*", metavar="WORD", help="only files with one in their path")
    options = parser.parse_args()
    CLEAN.mkdir(parents=True, exist_ok=True)
    chosen = [file for file in sources() if not options.only or _has(file, options.only)]
    marks = {file: CLEAN / state(file) for file in chosen}
    waiting = {file: mark for file, mark in marks.items() if not mark.exists()}
    minutes = len(waiting) * _SECONDS_PER_FILE / options.jobs / 60
    print(
        f"   {len(waiting)} of {len(chosen)} files to check, about {minutes:.0f} min; "
        "the others were clean and have not changed",
        file=sys.stderr,
    )
    try:
        found = check(waiting, options.jobs)
    except KeyboardInterrupt:
        print("   interrupted; what was clean by then is not checked again", file=sys.stderr)
        return 130
    if found:
        print(f"   {found} complaints", file=sys.stderr)
    return 1 if found else 0


def _has(file: Path, words: list[str]) -> bool:
    return any(word in str(file.relative_to(ROOT)) for word in words)


if __name__ == "__main__":
    sys.exit(main())

"""Self-contained headers: each compiles alone, and twice in one file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_FLAGS = [
    "-std=c++20",
    "-O0",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Werror",
]


def generate_messages(root: Path, output: Path) -> None:
    """The generated protobuf headers, which other headers may include."""
    files = [str(path.relative_to(root)) for path in sorted((root / "proto").glob("*.proto"))]
    subprocess.run(["protoc", f"--cpp_out={output}", *files], cwd=root, check=True)


def compile_header(header: Path, include_folders: Iterable[Path], scratch: Path) -> str:
    """The compiler's complaints about one header on its own; empty when there are none."""
    name = str(header).strip("/").replace("/", "_")
    source = scratch / f"{name}.cc"
    source.write_text(f'#include "{header}"\n' * 2)
    # ccache makes an unchanged header free the next time; it needs an object file as output.
    compiler = ["ccache", "g++"] if shutil.which("ccache") else ["g++"]
    # The first folder is ours; the others hold what does not answer to our warnings.
    ours, *others = include_folders
    command = [*compiler, *_FLAGS, f"-I{ours}", *(f"-isystem{folder}" for folder in others)]
    command += ["-c", str(source), "-o", str(scratch / f"{name}.o")]
    environment = {**os.environ, "CCACHE_NOHASHDIR": "1"}
    run = subprocess.run(command, cwd=scratch, capture_output=True, text=True, env=environment)
    return run.stderr if run.returncode else ""


def complaints(headers: Iterable[Path], folders: list[Path], scratch: Path) -> dict[Path, str]:
    """What is wrong with which header, compiling as many at once as there are cores."""
    headers = list(headers)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda header: compile_header(header, folders, scratch), headers)
        return {h: text for h, text in zip(headers, results, strict=True) if text}

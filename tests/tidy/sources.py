"""The files of the tree as the tidy rules see them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]

_LEFTOVERS = {"build", "__pycache__", "dist", "node_modules"}
_TEXT_SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".py", ".pyi", ".proto", ".sh", ".cmake", ".txt"}
_TEXT_SUFFIXES |= {".md", ".yaml", ".yml", ".toml", ".json"}
_TEXT_NAMES = {"dev", "run", ".clang-format", ".clang-tidy", ".gitignore", "LICENSE"}

_CXX_TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"(?P<tag>[^(\s]*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*\""""
    + r"|'(?:\\.|[^'\\\n])'",
    re.DOTALL,
)
_PYTHON_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|#[^\n]*|"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*'",
    re.DOTALL,
)


@dataclass(frozen=True)
class SourceFile:
    """One text file: its path from the root of the tree, and what is in it."""

    path: PurePosixPath
    text: str

    @property
    def is_header(self) -> bool:
        return self.path.suffix in (".h", ".cuh")

    @property
    def is_cxx(self) -> bool:
        return self.path.suffix in (".h", ".cc", ".cu", ".cuh")

    @property
    def is_python(self) -> bool:
        return self.path.suffix in (".py", ".pyi")

    @property
    def is_test(self) -> bool:
        name = self.path.name
        in_tests = self.path.parts[0] == "tests"
        return in_tests or bool(re.search(r"_test\.(cc|py)$|^test_.*\.py$", name))

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def code(self) -> list[str]:
        """The lines with comments and the insides of string literals blanked out."""
        token = _CXX_TOKEN if self.is_cxx else _PYTHON_TOKEN
        return token.sub(lambda match: "\n" * match[0].count("\n"), self.text).splitlines()


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _LEFTOVERS
            and not name.endswith(".egg-info")
            and (not name.startswith(".") or name == ".ci")
        )
        yield from (Path(place) / name for name in sorted(names))


@lru_cache(maxsize=1)
def tree() -> tuple[SourceFile, ...]:
    """Every text file of the checkout, without what builds leave behind."""
    return tuple(
        SourceFile(PurePosixPath(path.relative_to(ROOT)), path.read_text())
        for path in _walk(ROOT)
        if path.suffix in _TEXT_SUFFIXES or path.name in _TEXT_NAMES
    )

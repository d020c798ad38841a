"""Finds the tests that have a word: find_tests.py [--list] [WORD]

A word is looked for, without regard to case, in the paths of test files, in ctest names, in
GoogleTest's Suite.Case and in the names of Python tests. Reads sources and CMakeLists.txt only, so
it answers before anything is built. Says on stderr what it found and, unless it was to --list,
prints what ./dev runs, one a line:

    ctest NAME          a test program, and the build's target of that name
    gtest PATTERN       a GoogleTest filter for cases in it
    pytest NODE         a file of Python tests, or one test in it

Exits 1 when no test has the word.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOP_FOLDERS = ["common", "proto", "chunk", "codec", "transport", "storage", "planner"]
TOP_FOLDERS += ["client", "services", "tests", "bench", "tools"]
_NOT_SOURCES = {"build", "__pycache__"}

_TARGET = re.compile(r"\b(reprise_test|reprise_library|add_library)\(\s*(\w+)([^)]*)\)")
_CASE = re.compile(r"^(TEST|TEST_F|TEST_P)\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.MULTILINE)
_KEYWORDS = {"HDRS", "SRCS", "DEPS", "PRIVATE_DEPS", "TIMEOUT", "LABELS", "OBJECT"}
_MOST_NAMES = 3


@dataclass
class TestFile:
    """One source of tests."""

    path: str
    # A case as people read it -> how its runner is told to run it.
    cases: dict[str, str] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)  # none for Python

    @property
    def stem(self) -> str:
        return re.sub(r"^test_|_test$", "", Path(self.path).stem)

    def matching(self, word: str) -> tuple[list[str], list[str]]:
        """The cases to run for `word`, and the programs to run them in."""
        if word in str(Path(self.path).with_suffix("")).lower():
            return list(self.cases), self.programs
        if programs := [name for name in self.programs if word in name.lower()]:
            return list(self.cases), programs
        return [case for case in self.cases if word in case.lower()], self.programs


def _files(root: Path, pattern: str) -> Iterator[Path]:
    for folder in TOP_FOLDERS:
        for path in sorted((root / folder).rglob(pattern)):
            if not _NOT_SOURCES & set(path.relative_to(root).parts):
                yield path


def _targets(root: Path) -> dict[str, tuple[str, set[str], set[str]]]:
    """Every target: how it was declared, its own sources, and the targets it names."""
    found = {}
    for cmake in _files(root, "CMakeLists.txt"):
        for declared, name, rest in _TARGET.findall(re.sub(r"#.*", "", cmake.read_text())):
            words = [word for word in rest.split() if word not in _KEYWORDS]
            folder = cmake.parent.relative_to(root)
            sources = {str(folder / word) for word in words if (root / folder / word).is_file()}
            found[name] = (declared, sources, set(words))
    return found


def _cxx_tests(root: Path) -> list[TestFile]:
    files: dict[str, TestFile] = {}
    targets = _targets(root)
    for name, (declared, own, named) in sorted(targets.items()):
        if declared != "reprise_test":
            continue
        # A suite that several programs share is a library of theirs.
        shared = [targets[other][1] for other in named & targets.keys()]
        for path in sorted(own.union(*shared)):
            if path not in files:
                files[path] = TestFile(path)
                for kind, suite, case in _CASE.findall((root / path).read_text()):
                    pattern = f"*/{suite}.{case}/*" if kind == "TEST_P" else f"{suite}.{case}"
                    files[path].cases[f"{suite}.{case}"] = pattern
            files[path].programs.append(name)
    return [file for file in files.values() if file.cases]


def _python_tests(root: Path) -> list[TestFile]:
    found = []
    paths = {*_files(root, "test_*.py"), *_files(root, "*_test.py")}
    for path in sorted(paths):
        file = TestFile(str(path.relative_to(root)))
        for node in ast.parse(path.read_text()).body:
            inner = node.body if isinstance(node, ast.ClassDef) else [node]
            prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
            for each in inner:
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and (
                    each.name.startswith("test")
                ):
                    file.cases[prefix + each.name] = f"{file.path}::{prefix}{each.name}"
        if file.cases:
            found.append(file)
    return found


def all_tests(root: Path = ROOT) -> list[TestFile]:
    return sorted([*_cxx_tests(root), *_python_tests(root)], key=lambda file: file.path)


def near(word: str, files: list[TestFile]) -> list[str]:
    """Names that look like the word."""
    names: dict[str, str] = {}
    for file in files:
        for name in (file.stem, *file.programs, *(case.split(".")[0] for case in file.cases)):
            names.setdefault(name.lower(), name)
    return [names[name] for name in difflib.get_close_matches(word.lower(), names, 5, 0.6)]


def describe(file: TestFile, cases: list[str], programs: list[str]) -> str:
    where = f" in {', '.join(programs)}" if programs else ""
    if len(cases) == len(file.cases):
        return f"{file.path}: {'all ' * (len(cases) > 1)}{len(cases)}{where}"
    names = ", ".join(cases[:_MOST_NAMES]) + (", ..." if len(cases) > _MOST_NAMES else "")
    return f"{file.path}: {len(cases)} of {len(file.cases)}{where}: {names}"


def orders(found: list[tuple[TestFile, list[str], list[str]]]) -> list[str]:
    """What ./dev runs."""
    targets: dict[str, None] = {}
    lines = []
    for file, cases, programs in found:
        targets.update(dict.fromkeys(f"ctest {name}" for name in programs))
        if file.programs:
            lines += [f"gtest {file.cases[case]}" for case in cases]
        elif len(cases) == len(file.cases):
            lines.append(f"pytest {file.path}")
        else:
            lines += [f"pytest {file.cases[case]}" for case in cases]
    return [*targets, *lines]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("word", nargs="?", default="")
    options = parser.parse_args()
    files = all_tests()
    found = [(file, *file.matching(options.word.lower())) for file in files]
    found = [each for each in found if each[1]]
    if not found:
        print(f"dev: no test has the word {options.word!r}", file=sys.stderr)
        if names := near(options.word, files):
            print(f"dev: these look like it: {', '.join(names)}", file=sys.stderr)
        print("dev: ./dev test --list shows every test file", file=sys.stderr)
        return 1
    said = sys.stdout if options.list else sys.stderr
    print("\n".join(f"   {describe(*each)}" for each in found), file=said)
    if not options.list:
        print("\n".join(orders(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

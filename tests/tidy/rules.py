"""The file rules. Each takes one file and returns what is wrong with it, "path:line: what"."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.tidy.sources import SourceFile

Check = Callable[[SourceFile], list[str]]

MAX_COLUMNS = 100
MAX_LINES = 450
MAX_HEADER_LINES = 250
MAX_README_LINES = 60

# Third-party names and English words that hold a banned word.
_INNOCENT = re.compile(r"utility|utiliz|shutil|contextmanager", re.IGNORECASE)
_VAGUE = re.compile(r"util|manager|helper", re.IGNORECASE)


def _matching(file: SourceFile, lines: list[str], pattern: str, message: str) -> list[str]:
    return [
        f"{file.path}:{number}: {message}"
        for number, line in enumerate(lines, 1)
        if re.search(pattern, line)
    ]


def opening_comment(file: SourceFile) -> list[str]:
    """A header says first what it is and why."""
    if not file.is_header or file.text.startswith(("// ", "/* ")):
        return []
    return [f"{file.path}:1: a header opens with a comment: what it is, thread-safety, ownership"]


def pragma_once(file: SourceFile) -> list[str]:
    if not file.is_header or "#pragma once" in file.lines:
        return []
    return [f"{file.path}:1: a header has #pragma once"]


def line_length(file: SourceFile) -> list[str]:
    if not (file.is_cxx or file.is_python or file.path.suffix in (".sh", ".proto")):
        return []
    return [
        f"{file.path}:{number}: {len(line)} columns, at most {MAX_COLUMNS}"
        for number, line in enumerate(file.lines, 1)
        if len(line) > MAX_COLUMNS
    ]


def file_length(file: SourceFile) -> list[str]:
    limit = MAX_HEADER_LINES if file.is_header else MAX_LINES
    if not (file.is_cxx or file.is_python or file.path.suffix == ".sh"):
        return []
    if len(file.lines) <= limit:
        return []
    return [f"{file.path}:1: {len(file.lines)} lines, at most {limit}: split it by purpose"]


def readme_length(file: SourceFile) -> list[str]:
    if file.path.name != "README.md" or len(file.path.parts) == 1:
        return []
    if len(file.lines) <= MAX_README_LINES:
        return []
    return [f"{file.path}:1: {len(file.lines)} lines; one page is {MAX_README_LINES}"]


def vague_names(file: SourceFile) -> list[str]:
    """Names say what a thing does; these three words say only that somebody had nothing to say."""
    found = []
    if _VAGUE.search(_INNOCENT.sub("", str(file.path))):
        found.append(f"{file.path}:1: a vague word in the file's name")
    if not (file.is_cxx or file.is_python):
        return found
    for number, line in enumerate(file.code, 1):
        if line.lstrip().startswith(("#include", "import ", "from ")):
            continue
        name = next(
            (n for n in re.findall(r"\w+", line) if _VAGUE.search(_INNOCENT.sub("", n))), ""
        )
        if name:
            found.append(f"{file.path}:{number}: vague word in the name {name}")
    return found


def unfinished(file: SourceFile) -> list[str]:
    marks = "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"))
    return _matching(file, file.lines, rf"\b({marks})\b", "unfinished work is an issue, not a mark")


def sleeping_tests(file: SourceFile) -> list[str]:
    if not file.is_test:
        return []
    pattern = r"\bsleep_(for|until)\b|\bSleepFor\b|\bu?sleep\s*\(|\bnanosleep\b"
    return _matching(file, file.code, pattern, "a test waits for the event, it does not sleep")


def machine_names(file: SourceFile) -> list[str]:
    """Nothing in the tree depends on one machine's paths or names a package registry."""
    places = r"(?<![\w.$}/])/(work|farm|home|root|Users)/"
    hosts = r"deb\.debian" + r"\.org|pypi\.(org|python)|pythonhosted\.|registry\.npm"
    return _matching(file, file.lines, f"{places}|{hosts}", "a machine's path or a registry's host")


def one_mutex(file: SourceFile) -> list[str]:
    """Locks are common/mutex.h: annotated for clang, visible to ThreadSanitizer."""
    if not file.is_cxx or str(file.path) == "common/mutex.h":
        return []
    pattern = r"\babsl::(Mutex|MutexLock|CondVar)\b|\bstd::(recursive_|shared_|timed_)?mutex\b"
    return _matching(file, file.code, pattern, "lock with common/mutex.h")


def quiet_libraries(file: SourceFile) -> list[str]:
    """Libraries log; only programs and tests write to the terminal."""
    loud = ("services", "bench", "tests")
    if not file.is_cxx or file.is_test or file.path.parts[0] in loud:
        return []
    pattern = r"\bstd::(cout|cerr|clog)\b|(?<![\w.>])f?printf\s*\(|(?<![\w.>])puts\s*\("
    return _matching(file, file.code, pattern, "a library logs through common/log.h")


def few_environment_names(file: SourceFile) -> list[str]:
    """Settings are flags and YAML: whoever reads --help sees all of them.

    UCX has documented variables of its own, which keep their meaning.
    """
    if not file.is_cxx or file.is_test or str(file.path).startswith("transport/ucx/"):
        return []
    return _matching(
        file, file.code, r"\b(secure_)?getenv\s*\(", "settings are flags, not environment"
    )


ALL: tuple[Check, ...] = (
    opening_comment,
    pragma_once,
    line_length,
    file_length,
    readme_length,
    vague_names,
    unfinished,
    sleeping_tests,
    machine_names,
    one_mutex,
    quiet_libraries,
    few_environment_names,
)

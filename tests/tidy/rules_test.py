"""Holds the tree to its rules, and every rule to a sample that it must refuse."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tests.tidy import rules
from tests.tidy.includes import ALLOWED, check_includes
from tests.tidy.sources import ROOT, SourceFile, tree

CHECKS = (*rules.ALL, check_includes)

# Per rule: a file it refuses, and one next to it that it lets pass.
SAMPLES: dict[rules.Check, tuple[tuple[str, str], tuple[str, str]]] = {
    rules.opening_comment: (("a/x.h", "#pragma once\n"), ("a/x.h", "// Why.\n#pragma once\n")),
    rules.pragma_once: (("a/x.h", "// Why.\n#ifndef X\n"), ("a/x.h", "// Why.\n#pragma once\n")),
    rules.line_length: (("a/x.cc", "x" * 101), ("a/x.cc", "x" * 100)),
    rules.file_length: (("a/x.h", "\n" * 251), ("a/x.cc", "\n" * 450)),
    rules.readme_length: (("a/README.md", "\n" * 61), ("a/README.md", "\n" * 60)),
    rules.vague_names: (
        ("a/x.cc", "class SessionManag" + "er;"),
        ("a/x.cc", 'int utilization = 1;  // a "helper"\n#include <utility>\n'),
    ),
    rules.unfinished: (("a/x.cc", "// TO" + "DO: finish"), ("a/x.cc", "// todos are issues")),
    rules.sleeping_tests: (
        ("a/x_test.cc", "std::this_thread::sleep_" + "for(1s);"),
        ("a/x.cc", "std::this_thread::sleep_" + "for(1s);"),
    ),
    rules.machine_names: (
        ("a/x.md", "see /ho" + "me/me/x"),
        ("a/x.md", "see client/ho" + "me/x and /dev/shm"),
    ),
    rules.one_mutex: (
        ("a/x.cc", "absl::Mut" + "ex mutex_;"),
        ("a/x.cc", "Mutex mutex_;  // not std::mutex"),
    ),
    rules.quiet_libraries: (
        ("storage/x.cc", "std::cout << 1;"),
        ("services/cli/x.cc", "std::cout << 1;"),
    ),
    rules.few_environment_names: (
        ("storage/x.cc", 'getenv("X");'),
        ("storage/x_test.cc", 'getenv("X");'),
    ),
    check_includes: (
        ("services/store/x.cc", '#include "codec/codec.h"\n'),
        ("services/cli/x.cc", '#include "codec/codec.h"\n'),
    ),
}


def _run(check: rules.Check, sample: tuple[str, str]) -> list[str]:
    path, text = sample
    return check(SourceFile(PurePosixPath(path), text))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_tree_obeys(check: rules.Check) -> None:
    wrong = [line for file in tree() for line in check(file)]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_rule_can_fail(check: rules.Check) -> None:
    refused, passed = SAMPLES[check]
    assert _run(check, refused)
    assert not _run(check, passed)


@pytest.mark.parametrize(
    ("path", "include"),
    [
        ("common/x.h", '"chunk/keys.h"'),
        ("chunk/x.cc", '"codec/codec.h"'),
        ("codec/x.cc", '"storage/piece_store.h"'),
        ("transport/ucx/x.cc", '"proto/methods.h"'),
        ("storage/host/x.cc", '"transport/transport.h"'),
        ("planner/x.cc", '"chunk/keys.h"'),
        ("client/x.cc", '"storage/piece_store.h"'),
        ("client/x.cc", '"services/store/x.h"'),
        ("services/store/x.cc", '"client/reprise.h"'),
        ("client/x.cc", "<ucp/api/ucp.h>"),
        ("client/session.cc", "<grpcpp/grpcpp.h>"),
        ("storage/x.cc", "<prometheus/counter.h>"),
    ],
)
def test_forbidden_includes_are_found(path: str, include: str) -> None:
    assert _run(check_includes, (path, f"#include {include}\n"))


@pytest.mark.parametrize(
    ("path", "include"),
    [
        ("common/x.cc", '"common/x.h"'),
        ("client/x.cc", '"storage/gpu/tier.h"'),
        ("services/cli/x.cc", '"client/reprise.h"'),
        ("services/store/x.cc", '"storage/piece_store.h"'),
        ("tests/integration/x_test.cc", '"services/store/x.h"'),
        ("transport/ucx/x.cc", "<ucp/api/ucp.h>"),
        ("common/x.cc", '"absl/strings/str_cat.h"'),
    ],
)
def test_allowed_includes_pass(path: str, include: str) -> None:
    assert not _run(check_includes, (path, f"#include {include}\n"))


def test_comments_and_strings_are_not_code() -> None:
    text = 'int a;  // helper\nauto b = "manager";\nauto c = R"(util\n)";\nint d;\n'
    code = SourceFile(PurePosixPath("a/x.cc"), text).code
    assert [line.strip() for line in code] == ["int a;", "auto b = ;", "auto c =", ";", "int d;"]


def test_every_folder_has_a_readme() -> None:
    folders = {*ALLOWED, "deploy", "docs", "tools", "transport/ucx", "transport/grpc"}
    missing = sorted(folder for folder in folders if not (ROOT / folder / "README.md").exists())
    assert not missing
    assert (ROOT / "README.md").exists()

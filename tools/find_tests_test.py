"""Tests of what ./dev test WORD runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import find_tests

CMAKE = """
reprise_library(storage_lru HDRS lru.h SRCS lru.cc DEPS absl::btree)  # no test: lru_extra.cc
add_library(suite OBJECT carrier_suite.cc)
reprise_test(storage_policy_test SRCS lru_test.cc  DEPS storage_lru)
reprise_test(storage_ucx_test
  SRCS ucx_test.cc
  DEPS suite)
reprise_test(storage_grpc_test SRCS ${generated}/x.cc grpc_test.cc DEPS suite)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "storage").mkdir()
    (tmp_path / "tools").mkdir()
    sources = {
        "CMakeLists.txt": CMAKE,
        "lru_test.cc": "TEST(LruTest, EvictsOldest) {}\nTEST_F(LruTest, KeepsHeld) {}\n",
        "carrier_suite.cc": "TEST_P(Carrier, Echo) {}\nTEST_P(Carrier, Cancel) {}\n",
        "ucx_test.cc": "TEST(Frame,\n     Sizes) {}\n",
        "grpc_test.cc": "INSTANTIATE_TEST_SUITE_P(Grpc, Carrier, Values(1));\n",
    }
    for name, text in sources.items():
        (tmp_path / "storage" / name).write_text(text)
    tests = "def test_sum(): ...\nclass TestLong:\n    def test_lru_too(self): ...\n"
    (tmp_path / "tools" / "count_test.py").write_text(tests)
    return tmp_path


def ordered(tree: Path, word: str) -> list[str]:
    found = [(file, *file.matching(word)) for file in find_tests.all_tests(tree)]
    return find_tests.orders([each for each in found if each[1]])


def test_a_word_of_a_path_takes_the_whole_file(tree: Path) -> None:
    expected = [
        "ctest storage_policy_test",
        "gtest LruTest.EvictsOldest",
        "gtest LruTest.KeepsHeld",
    ]
    assert ordered(tree, "storage/lru") == expected
    assert ordered(tree, "count") == ["pytest tools/count_test.py"]


def test_a_word_of_a_name_takes_those_cases(tree: Path) -> None:
    assert ordered(tree, "keepsheld") == ["ctest storage_policy_test", "gtest LruTest.KeepsHeld"]
    assert ordered(tree, "lru")[-1] == "pytest tools/count_test.py::TestLong::test_lru_too"
    assert ordered(tree, "sizes") == ["ctest storage_ucx_test", "gtest Frame.Sizes"]


def test_a_shared_suite_runs_in_the_programs_meant(tree: Path) -> None:
    both = ["ctest storage_grpc_test", "ctest storage_ucx_test", "gtest */Carrier.Echo/*"]
    assert ordered(tree, "echo") == both
    grpc = ["ctest storage_grpc_test", "gtest */Carrier.Echo/*", "gtest */Carrier.Cancel/*"]
    assert ordered(tree, "grpc") == grpc


def test_names_that_look_like_the_word_are_offered(tree: Path) -> None:
    files = find_tests.all_tests(tree)
    assert find_tests.near("lrru", files) == ["lru"]
    assert find_tests.near("quite another", files) == []


def test_a_word_that_no_test_has_is_said_at_once() -> None:
    # In two halves, or this file would have it.
    command = [sys.executable, str(Path(find_tests.__file__)), "storage_polisy" + "_test"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stdout == ""
    assert "no test has the word 'storage_polisy_test'" in run.stderr
    assert "storage_policy_test" in run.stderr


def test_every_test_program_of_this_tree_is_known() -> None:
    programs = {name for file in find_tests.all_tests() for name in file.programs}
    assert {"storage_policy_test", "services_cli_test", "transport_ucx_test"} <= programs

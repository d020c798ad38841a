"""Tests of the report that decides whether ./dev test passed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("test_report.py")

GTEST = """<testsuites><testsuite name="Keys">
<testcase name="Vectors" status="run" classname="Keys"/>
<testcase name="Gpu" status="run" classname="Keys"><skipped message="x.cc:1&#10;no GPU"/></testcase>
<testcase name="Order" status="run" classname="Keys">{order}</testcase>
</testsuite></testsuites>"""
CTEST = """<testsuite>
<testcase name="chunk_keys_test" time="1.5" status="run">{keys}</testcase>
<testcase name="plain_test" time="0.1" status="run">{plain}</testcase>
</testsuite>"""
PYTEST = """<testsuites><testsuite>
<testcase classname="bench.harness_test" name="test_a" time="0.1"/>
</testsuite></testsuites>"""


def run(folder: Path, *, order: str = "", keys: str = "", plain: str = "") -> tuple[int, list[str]]:
    (folder / "gtest").mkdir()
    (folder / "gtest" / "chunk_keys_test.xml").write_text(GTEST.format(order=order))
    (folder / "ctest.xml").write_text(CTEST.format(keys=keys, plain=plain))
    (folder / "pytest.xml").write_text(PYTEST)
    return report(folder)


def report(folder: Path) -> tuple[int, list[str]]:
    command = [sys.executable, str(SCRIPT), str(folder), "ctest", "pytest"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_every_case_is_counted_and_every_skip_has_its_reason(tmp_path: Path) -> None:
    status, lines = run(tmp_path)
    assert status == 0
    assert lines[-1] == "4 passed, 0 failed, 1 skipped"
    assert "skipped: chunk_keys_test: Keys.Gpu: no GPU" in lines


def test_a_failed_case_fails(tmp_path: Path) -> None:
    failure = '<failure message="no"/>'
    status, lines = run(tmp_path, order=failure, keys=failure)
    assert status == 1
    assert lines[-1] == "3 passed, 1 failed, 1 skipped"
    assert "FAILED: chunk_keys_test: Keys.Order" in lines


def test_a_program_that_ends_badly_after_its_tests_fails(tmp_path: Path) -> None:
    status, lines = run(tmp_path, keys='<failure message="leak"/>')
    assert status == 1
    assert lines[-1] == "4 passed, 1 failed, 1 skipped"


def test_a_program_that_left_no_report_fails(tmp_path: Path) -> None:
    status, lines = run(tmp_path, plain='<failure message="crashed"/>')
    assert status == 1
    assert lines[-1] == "3 passed, 1 failed, 1 skipped"


def test_a_missing_report_fails(tmp_path: Path) -> None:
    status, lines = report(tmp_path)
    assert status == 1
    assert lines[-1] == "0 passed, 2 failed, 0 skipped"

"""Tests of what ./dev is made of, in a bash that has its parts loaded."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent


def bash(root: Path, script: str) -> subprocess.CompletedProcess[str]:
    parts = "".join(f"source {TOOLS}/dev_{part}.sh\n" for part in ("base", "setup", "build"))
    full = f"set -euo pipefail\nROOT={root}\n{parts}{script}"
    return subprocess.run(["bash", "-c", full], capture_output=True, text=True)


def test_a_long_command_passes_on_its_status_and_shows_its_log_when_it_fails(
    tmp_path: Path,
) -> None:
    good = bash(tmp_path, "run_logged 'doing well' echo words")
    assert good.returncode == 0
    assert "words" not in good.stderr
    assert (tmp_path / "build" / "log" / "doing-well.log").read_text() == "words\n"
    bad = bash(tmp_path, "run_logged 'doing badly' sh -c 'echo why; exit 7' || exit $?")
    assert bad.returncode == 7
    assert "why" in bad.stderr
    assert bad.stdout == ""
    title = " ".join(["many"] * 100)
    assert bash(tmp_path, f"run_logged '{title}' echo words").returncode == 0
    assert len(list((tmp_path / "build" / "log").glob("many-many*.log"))) == 1


def test_a_step_that_failed_or_was_killed_has_no_stamp(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    stamps = tmp_path / ".venv" / "stamps"
    stamps.mkdir()
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    assert bash(tmp_path, "pip_install x hash1 pkg").returncode == 3
    assert list(stamps.iterdir()) == []
    python.write_text("#!/bin/sh\nkill -9 $PPID\n")
    bash(tmp_path, "pip_install x hash1 pkg")
    assert [path.name for path in stamps.iterdir()] == ["unfinished"]
    python.write_text("#!/bin/sh\nexit 0\n")
    assert bash(tmp_path, "pip_install x hash1 pkg").returncode == 0
    assert (stamps / "x").read_text() == "hash1\n"
    python.write_text("#!/bin/sh\nexit 3\n")
    assert bash(tmp_path, "pip_install x hash1 pkg").returncode == 0
    assert bash(tmp_path, "pip_install x hash2 pkg").returncode == 3


def test_the_hash_sees_names_and_bytes_but_not_leftovers(tmp_path: Path) -> None:
    def current() -> str:
        return bash(tmp_path, f"cd {tmp_path} && hash_of src").stdout

    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_text("1")
    first = current()
    (tmp_path / "src" / "__pycache__").mkdir()
    (tmp_path / "src" / "__pycache__" / "a.pyc").write_text("x")
    assert current() == first
    (tmp_path / "src" / "a").write_text("2")
    second = current()
    (tmp_path / "src" / "a").rename(tmp_path / "src" / "b")
    assert len({first, second, current()}) == 3


def test_missing_packages_are_found_and_installed_ones_are_not(tmp_path: Path) -> None:
    run = bash(tmp_path, "missing_packages bash no-such-package-1 coreutils")
    assert run.stdout.split() == ["no-such-package-1"]


def test_jobs_are_bounded_by_cores(tmp_path: Path) -> None:
    run = bash(tmp_path, "nproc() { echo 3; }; build_jobs")
    assert 1 <= int(run.stdout) <= 3


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["build", "nonsense"], ["fuzz", "soon"], ["crash", "0"]]
)
def test_mistakes_end_with_one_clear_line(arguments: list[str]) -> None:
    command = [str(TOOLS.parent / "dev"), *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("dev: ")


def test_mistakes_are_said_without_waiting_for_another_dev(tmp_path: Path) -> None:
    lock = TOOLS.parent / "build" / "lock"
    lock.parent.mkdir(exist_ok=True)
    script = f"exec 8>{lock}; flock -n 8; exec {TOOLS.parent / 'dev'} build no-such-target"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "neither a preset nor a target" in run.stderr

"""Adds up what a test run left behind: test_report.py RESULTS_DIRECTORY ctest [pytest]

Reads ctest.xml (one case per test program), gtest/PROGRAM.xml (one case per GoogleTest test) and
pytest.xml; prints one line per program, every failure, every skipped test with its reason, and what
the machine has. The last line is "N passed, M failed, K skipped". Exits 1 when a test failed, none
ran, or a named report is missing.
"""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Suite:
    """What one test program or one folder of Python tests did."""

    name: str
    seconds: float = 0.0
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, case: ElementTree.Element, name: str) -> None:
        if case.find("failure") is not None or case.find("error") is not None:
            self.failed.append(name)
        elif (skip := case.find("skipped")) is not None:
            reason = skip.get("message") or (skip.text or "").strip() or "no reason given"
            self.skipped.append((name, reason.strip().splitlines()[-1]))
        elif case.get("status") in ("disabled", "notrun"):
            self.skipped.append((name, case.get("status", "")))
        else:
            self.passed += 1


def _cases(path: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(path).getroot().iter("testcase"))


def read_ctest(results: Path) -> list[Suite]:
    """One suite per ctest case; its GoogleTest cases when it left a complete report, else the case
    itself.
    """
    suites = []
    for case in _cases(results / "ctest.xml"):
        suite = Suite(case.get("name", "?"), seconds=float(case.get("time") or 0))
        report = results / "gtest" / f"{suite.name}.xml"
        if report.exists():
            for inner in _cases(report):
                suite.add(inner, f"{inner.get('classname')}.{inner.get('name')}")
            if case.find("failure") is not None and not suite.failed:
                suite.failed.append("the program itself: its tests passed but it did not end well")
        else:
            suite.add(case, "the whole program")
        suites.append(suite)
    return suites


def read_pytest(results: Path) -> list[Suite]:
    """One suite per Python test file."""
    suites: dict[str, Suite] = {}
    for case in _cases(results / "pytest.xml"):
        file = case.get("classname") or "collection"
        suite = suites.setdefault(file, Suite(file))
        suite.seconds += float(case.get("time") or 0)
        suite.add(case, case.get("name", "?"))
    return list(suites.values())


def _machine() -> str:
    gpu = "GPU" if Path("/dev/nvidiactl").exists() else "no GPU"
    rdma = Path("/sys/class/infiniband")
    card = "RDMA" if rdma.is_dir() and any(rdma.iterdir()) else "no RDMA"
    return f"{os.cpu_count()} cores, {gpu}, {card}"


def report(suites: list[Suite]) -> int:
    """Prints the report and returns the exit status."""
    for suite in suites:
        counts = f"{suite.passed} passed"
        counts += f", {len(suite.failed)} FAILED" if suite.failed else ""
        counts += f", {len(suite.skipped)} skipped" if suite.skipped else ""
        print(f"  {suite.name:<44} {suite.seconds:7.1f} s  {counts}")
    for suite in suites:
        for name, reason in suite.skipped:
            print(f"skipped: {suite.name}: {name}: {reason}")
    for suite in suites:
        for name in suite.failed:
            print(f"FAILED: {suite.name}: {name}")
    passed = sum(suite.passed for suite in suites)
    failed = sum(len(suite.failed) for suite in suites)
    skipped = sum(len(suite.skipped) for suite in suites)
    print(f"on {_machine()}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def main() -> int:
    results = Path(sys.argv[1])
    suites = []
    for runner in sys.argv[2:]:
        if (results / f"{runner}.xml").exists():
            suites += {"ctest": read_ctest, "pytest": read_pytest}[runner](results)
        else:
            suites.append(Suite(runner, failed=["it ended without a report"]))
    return report(suites)


if __name__ == "__main__":
    sys.exit(main())

"""Tests of bench/harness: a figure must say "holds" exactly when the samples say so."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bench.harness.__main__ import last_lines
from bench.harness.report import Bench, Circumstances, Line
from bench.harness.samples import Pair, quantile, steady_pairs, summarize, summarize_pairs
from bench.harness.table import number, results_page, terminal_table
from bench.harness.targets import Target, read_targets


def make_bench(targets: dict[str, Target]) -> tuple[Bench, list[Line]]:
    lines: list[Line] = []
    where = Circumstances("a machine", "abc", "./dev bench x --json")
    bench = Bench("x", targets, where, lines.append, root=Path("/r"), options=argparse.Namespace())
    return bench, lines


AT_LEAST_HALF = Target(">=", 0.5, "x", "")


def test_quantiles_interpolate() -> None:
    assert quantile([4, 1, 3, 2], 0.25) == 1.75
    assert quantile([4, 1, 3, 2], 0.75) == 3.25
    assert quantile([7], 0.9) == 7


def test_summary_is_the_median_and_the_interquartile_range() -> None:
    summary = summarize([10, 1, 2, 3])
    assert (summary.value, summary.spread, summary.used) == (2.5, 3.0, 4)


def test_samples_must_be_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        summarize([1.0, float("nan")])


def test_pairs_with_a_stray_yardstick_are_discarded_and_counted() -> None:
    pairs = [Pair(5, 10), Pair(6, 10), Pair(9, 10), Pair(1, 11.0), Pair(100, 8.9), Pair(100, 11.1)]
    assert [pair.yardstick for pair in steady_pairs(pairs)] == [10, 10, 10, 11.0]
    summary = summarize_pairs(pairs)
    assert summary is not None
    assert summary.value == pytest.approx(0.55)
    assert (summary.used, summary.discarded) == (4, 2)


def test_mostly_stray_yardsticks_conclude_nothing() -> None:
    assert summarize_pairs([Pair(1, 1), Pair(1, 2), Pair(1, 4), Pair(1, 8)]) is None


@pytest.mark.parametrize(
    ("comparison", "value", "holds"),
    [
        (">=", 0.5, True),
        (">=", 0.49, False),
        ("<=", 0.5, True),
        ("<=", 0.51, False),
        ("==", 0.5, True),
        ("==", 0.51, False),
    ],
)
def test_every_comparison_can_hold_and_fail(comparison: str, value: float, holds: bool) -> None:
    bench, lines = make_bench({"f": Target(comparison, 0.5, "GB/s", "")})
    bench.sample("f", value, "GB/s")
    bench.finish()
    assert lines[-1]["figures"]["f"]["holds"] is holds


def test_a_listed_figure_that_was_not_measured_does_not_hold() -> None:
    bench, _ = make_bench({"f": AT_LEAST_HALF})
    figure = bench.finish()["figures"]["f"]
    assert figure["value"] is None
    assert figure["holds"] is False


def test_a_pair_reports_the_ratio_and_both_sides() -> None:
    bench, lines = make_bench({"f": AT_LEAST_HALF})
    for ours in (6.0, 8.0, 7.0):
        bench.pair("f", ours, 10.0, "GB/s")
    figures = bench.finish()["figures"]
    assert figures["f"]["value"] == pytest.approx(0.7)
    assert figures["f"]["holds"] is True
    assert (figures["f"]["unit"], figures["f"]["target"]) == ("x", 0.5)
    assert (figures["f.ours"]["value"], figures["f.ours"]["unit"]) == (7.0, "GB/s")
    assert figures["f.yardstick"]["value"] == 10.0
    assert figures["f.yardstick"]["holds"] is None
    raw = {"bench": "x", "figure": "f", "ours": 6.0, "yardstick": 10.0, "unit": "GB/s"}
    assert lines[0] == raw
    assert len(lines) == 4


def test_units_may_not_change() -> None:
    bench, _ = make_bench({"f": Target("<=", 1, "us", "")})
    with pytest.raises(ValueError, match="'us'"):
        bench.sample("f", 1.0, "ms")
    bench.sample("g", 1.0, "ms")
    with pytest.raises(ValueError, match="'ms'"):
        bench.sample("g", 1.0, "s")


def test_the_targets_file_is_read_whole() -> None:
    targets = read_targets()
    assert list(targets) == ["wire", "store", "codec", "nvme", "trace", "ttft"]
    assert targets["wire"]["tcp_fetch_verified_8m"].bound == 0.70
    assert targets["wire"]["heap_allocations_per_mib"].comparison == "=="
    assert targets["codec"]["embedding_cost_bits"].unit == "bit/value"
    assert sum(len(figures) for figures in targets.values()) == 50


def test_a_line_that_is_no_target_is_named(tmp_path: Path) -> None:
    file = tmp_path / "targets.yaml"
    file.write_text('wire:\n  good: [">=", 1, "x", ""]\n  bad: ["about", 1, "x", ""]\n')
    with pytest.raises(ValueError, match=r"wire\.bad.*about"):
        read_targets(file)


def test_the_results_page_shows_what_was_measured_and_what_was_not() -> None:
    targets = {"x": {"f": AT_LEAST_HALF}, "y": {"g": Target("<=", 5, "s", "")}}
    bench, _ = make_bench(targets["x"])
    bench.pair("f", 4.0, 10.0, "GB/s")
    line = bench.finish()
    page = results_page(targets, [line])
    assert "| f | 0.4 | 0 | x | >= 0.5 | DOES NOT HOLD | 1 |" in page
    assert "`./dev bench x --json` on a machine" in page
    assert "| g | - | - | s | <= 5 |  | 0 |" in page
    assert "Not measured" in page.split("## y")[1]
    assert "DOES NOT HOLD" in terminal_table(line)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0"), (0.12345, "0.1235"), (12345.6, "12,346"), (3.0, "3")]
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


def test_the_page_takes_what_ran_to_its_end(tmp_path: Path) -> None:
    sample = '{"bench": "trace", "figure": "f", "value": 1, "unit": "s"}\n'
    (tmp_path / "trace.jsonl").write_text(sample + '{"bench": "trace", "figures": {}}\n')
    (tmp_path / "nvme.jsonl").write_text(sample)
    (tmp_path / "wire.jsonl").write_text("")
    (tmp_path / "gone.jsonl").write_text('{"bench": "gone", "figures": {}}\n')
    assert [line["bench"] for line in last_lines(tmp_path)] == ["trace"]

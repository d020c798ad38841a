"""Reading one rate curve at another's error."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.fidelity.comparison import comparisons, figures, near_lossless_ratio, worst_ratio
from bench.fidelity.rates import Point, interpolated_bits, measured_bits
from bench.fidelity.rows import Row, merged, read_rows, row, write_rows
from bench.fidelity.score import LevelScore

# Each bit halves both errors; the last level is lossless.
OURS = [Point(2, 0.4, 0.8), Point(3, 0.2, 0.4), Point(4, 0.1, 0.2), Point(10, 0, 0)]


@pytest.mark.parametrize(
    ("theirs", "measured", "interpolated"),
    [
        (Point(9, 0.2, 0.4), 3, 3),
        (Point(9, 0.2, 0.39), 4, 3.0365),  # the worst layer decides
        (Point(9, 0.1414214, 0.8), 4, 3.5),  # the mean decides, half way in the logarithm
        (Point(9, 0.9, 0.9), 2, 2),  # nothing is extrapolated below our coarsest level
        (Point(9, 0.05, 0.1), 10, 10),  # nor between a lossy level and the lossless one
    ],
)
def test_both_errors_must_be_met(theirs: Point, measured: float, interpolated: float) -> None:
    assert measured_bits(OURS, theirs) == measured
    assert interpolated_bits(OURS, theirs) == pytest.approx(interpolated, abs=1e-3)


def test_what_we_never_match_has_no_bits() -> None:
    assert measured_bits(OURS[:3], Point(9, 0.01, 0.2)) is None
    assert interpolated_bits(OURS[:3], Point(9, 0.01, 0.2)) is None


def test_interpolated_is_never_more_than_measured() -> None:
    for error in (0.35, 0.21, 0.15, 0.11, 0.3):
        theirs = Point(9, error, 1.9 * error)
        assert (interpolated_bits(OURS, theirs) or 99) <= (measured_bits(OURS, theirs) or 0)


def made(scheme: str, level: str, point: Point, **more: float | str) -> Row:
    where = {"model": "m", "dtype": "bf16"} | more
    return Row(
        scheme=scheme,
        level=level,
        lossless=point.mean_error == 0,
        bits=point.bits,
        k_bits=point.bits,
        v_bits=point.bits,
        mean_error=point.mean_error,
        worst_error=point.worst_error,
        worst_layer=0,
        **where,
    )


def test_the_worst_of_all_models_and_levels_is_reported() -> None:
    rows = [made("Reprise", str(level), point) for level, point in enumerate(OURS)]
    rows += [made("Reprise", str(level), p, model="n") for level, p in enumerate(OURS)]
    rows.append(made("TurboQuant 2 bit", "", Point(4, 0.4, 0.8)))
    rows.append(made("TurboQuant 4 bit", "", Point(5, 0.1, 0.2), model="n"))
    found = comparisons(rows)
    assert len(found) == 2
    worst = worst_ratio(found, "bits_vs_turboquant_worst", lambda each: each.measured_ratio)
    assert worst == pytest.approx(4 / 5)
    assert worst_ratio(found, "bits_vs_kivi2", lambda each: each.measured_ratio) is None


def test_one_rival_that_is_never_matched_leaves_nothing_to_claim() -> None:
    rows = [made("Reprise", "0", OURS[0]), made("KIVI 4 bit", "", Point(5, 0.1, 0.2))]
    found = comparisons(rows)
    assert worst_ratio(found, "bits_vs_kivi4", lambda each: each.measured_ratio) is None


def test_only_what_can_be_claimed_is_a_figure() -> None:
    rows = [made("Reprise", str(level), point) for level, point in enumerate(OURS)]
    rivals = [made("KIVI 4 bit", "", Point(5, 0.12, 0.2)), made("16 bit", "", Point(16, 0, 0))]
    found = figures(rows + rivals)
    assert found["bits_vs_kivi4"] == pytest.approx(4 / 5)
    assert found["bits_vs_kivi4_on_curve"] == pytest.approx(4 / 5)  # the worst layer decides
    assert set(found) == {"bits_vs_kivi4", "bits_vs_kivi4_on_curve"}
    assert figures(rivals) == {}


def test_near_lossless_needs_both_measures_on_every_model() -> None:
    rows = [
        made("Reprise", "0", OURS[0], kl=0.02, top1=0.99),
        made("Reprise", "1", OURS[1], kl=0.005, top1=0.96),
        made("Reprise", "2", OURS[2], kl=0.001, top1=0.98),
        made("Reprise", "2", Point(8, 0.1, 0.2), model="n", kl=0.001, top1=0.98),
    ]
    assert near_lossless_ratio(rows[:3]) == 4
    assert near_lossless_ratio(rows) == 2
    assert near_lossless_ratio(rows[:2]) == 0


def test_rows_average_texts_and_survive_a_file(tmp_path: Path) -> None:
    texts = [
        LevelScore("S", "1", False, {"k": 300.0, "v": 100.0}, {"k": 100, "v": 100}, [0.1, 0.3]),
        LevelScore("S", "1", False, {"k": 900.0, "v": 300.0}, {"k": 300, "v": 300}, [0.3, 0.1]),
    ]
    found = row("m", "bf16", texts)
    assert (found.k_bits, found.v_bits, found.bits) == (3.0, 1.0, 2.0)
    assert found.mean_error == pytest.approx(0.2)
    assert found.worst_error == pytest.approx(0.2)
    write_rows(tmp_path / "rows.json", [found])
    assert read_rows(tmp_path / "rows.json") == [found]


def test_merging_replaces_a_scheme_with_all_its_levels() -> None:
    old = [made("Reprise", str(level), point) for level, point in enumerate(OURS)]
    old += [made("KIVI 4 bit", "", Point(5, 0.1, 0.2)), made("Reprise", "0", OURS[0], dtype="fp16")]
    new = [made("Reprise", "0", Point(1, 0.5, 0.6))]
    assert merged(old, new) == [*new, *old[-2:]]

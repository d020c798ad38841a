"""The demo's prompts and its report: exact lengths, and no row that claims what did not happen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from reprise_llamacpp.demo_prompt import documentation, make_prompts
from reprise_llamacpp.demo_report import LevelRow, Report, Row


def tokenize(text: str) -> list[int]:
    return list(text.encode())


def test_prompts_have_exact_lengths_and_share_exactly_what_they_say() -> None:
    # Every second token of this text is the same, so the second prompt has to look for a start.
    text = "".join(f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyz" * 20)
    for shared in (300, 301):
        prompts = make_prompts(
            text, tokenize, whole_tokens=600, partial_tokens=450, shared_tokens=shared
        )
        assert (len(prompts.whole), len(prompts.partial)) == (600, 450)
        assert prompts.whole[:shared] == prompts.partial[:shared]
        assert prompts.whole[shared] != prompts.partial[shared]
        assert bytes(prompts.whole).decode().endswith("<|im_start|>assistant\n")
        assert bytes(prompts.partial).decode().endswith("<|im_start|>assistant\n")
        assert text[: prompts.documentation_tokens] in bytes(prompts.whole).decode()


def test_prompts_that_cannot_be_made_are_refused() -> None:
    lengths = {"whole_tokens": 600, "partial_tokens": 450, "shared_tokens": 300}
    with pytest.raises(ValueError, match="documentation has 400 tokens"):
        make_prompts("ab" * 200, tokenize, **lengths)
    with pytest.raises(ValueError, match="no room for the questions"):
        make_prompts("ab" * 2000, tokenize, **(lengths | {"whole_tokens": 310}))
    with pytest.raises(ValueError, match="no room for the questions"):
        make_prompts("ab" * 2000, tokenize, **(lengths | {"partial_tokens": 310}))


def test_documentation_is_the_readme_the_pages_and_the_folders(tmp_path: Path) -> None:
    for name in ("README.md", "docs/b.md", "docs/a.md", "chunk/README.md", "chunk/other.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert documentation(tmp_path) == "README.md\n\ndocs/a.md\n\ndocs/b.md\n\nchunk/README.md"
    with pytest.raises(FileNotFoundError, match="--docs"):
        documentation(tmp_path / "docs" / "nowhere")


def recomputed(answer: list[int], ttft_ms: float = 1000.0) -> dict[str, Any]:
    return {"ttft_ms": ttft_ms, "answer": answer, "text": "words"}


def loaded(
    answer: list[int],
    chunks: int = 8,
    carrier: str = "ucx",
    level: int = 1,
    tiers: tuple[str, ...] = ("host",),
) -> dict[str, Any]:
    prefill = {
        "loaded_chunks": chunks,
        "level": level,
        "carrier": carrier,
        "bytes_received": 1_000_000 * chunks,
        "shortfall": "store unreachable (gone)",
    }
    return recomputed(answer, 100.0) | {"prefill": prefill, "tiers": list(tiers)}


def good_report() -> Report:
    ucx = Row("ucx", 2056, 8, "ucx", 1, "host")
    low = Row("level 0", 2056, 8, "ucx", 0, "host")
    low.add(loaded([1, 2, 9], level=0))
    report = Report(
        whole=Row("recomputed", 2056),
        ucx=ucx,
        grpc=Row("grpc", 2056, 8, "grpc", expected_tier="host"),
        partial_whole=Row("second recomputed", 1288),
        partial=Row("second", 1288, 4, "ucx", expected_tier="host"),
        nvme=Row("nvme", 2056, 8, "ucx", 1, "nvme"),
        restarted=Row("restarted", 2056, 8, "ucx", 1, "nvme"),
        killed=Row("killed", 2056, 8, "ucx", 1, "nvme"),
        levels=[LevelRow(low, 1000, 4000, 0.3, 0.4), LevelRow(ucx, 4000, 4000, 0.0, 0.0)],
        facts={"model": "m"},
    )
    for answer in ([1, 2, 3], [1]):
        report.whole.add(recomputed(answer))
        report.ucx.add(loaded(answer))
        report.grpc.add(loaded(answer, carrier="grpc"))
        for row in (report.nvme, report.restarted, report.killed):
            row.add(loaded(answer, tiers=("nvme",)))
    report.partial_whole.add(recomputed([4, 5]))
    report.partial.add(loaded([4, 5], chunks=4))
    return report


def test_a_good_run_has_nothing_to_complain_about() -> None:
    report = good_report()
    assert report.complaints == []
    figures = report.as_json()
    assert figures["tokens_identical"] is True
    assert (figures["carrier"], figures["prompt_tokens"]) == ("ucx", 2056)
    assert (figures["ttft_recompute_ms"], figures["ttft_load_ms"]) == (1000, 100)
    assert (figures["partial_chunks_loaded"], figures["bytes_moved"]) == (4, 8_000_000)
    assert figures["model"] == "m"
    assert report.table().count("identical") == 6
    assert [line.split()[:2] for line in report.table().splitlines()[5:9]] == [
        ["second", "host"],
        ["nvme", "nvme"],
        ["restarted", "nvme"],
        ["killed", "nvme"],
    ]
    assert figures["tiers"] == {
        **dict.fromkeys(("ucx", "grpc", "second"), "host"),
        **dict.fromkeys(("nvme", "restarted", "killed"), "nvme"),
    }
    assert "10 x" in report.table()
    assert "median" in report.table()
    assert "rounds" not in report.table()


def test_a_single_round_is_no_median() -> None:
    report = good_report()
    report.facts["rounds_meant"] = 3
    assert "2 of 3 rounds: more would have taken over a minute" in report.table()
    report.whole.ttft_ms.pop()
    assert "1 of 3 rounds" in report.table()
    assert "median" not in report.table()


def test_a_lossy_level_says_how_far_it_agrees_and_promises_nothing() -> None:
    report = good_report()
    low, lossless = report.as_json()["levels"]
    assert (low["level"], low["bits_per_value"], low["ratio_to_16_bit"]) == (0, 2.0, 8.0)
    assert (low["tokens_identical"], low["leading_tokens_identical"]) == (False, 2)
    assert (lossless["level"], lossless["tokens_identical"]) == (1, True)
    assert lossless["leading_tokens_identical"] == lossless["answer_tokens"] == 3
    assert "first 2 of 3 identical" in report.level_table()
    assert report.level_table().count("all identical") == 1
    report.levels[0].row.add(loaded([1], level=1))
    assert report.complaints == ["level 0: reached level 1"]


@pytest.mark.parametrize(
    ("row", "answer", "complaint", "identical"),
    [
        ("ucx", loaded([1, 2, 4]), "other tokens than recomputed", False),
        ("ucx", loaded([2]), "other tokens than recomputed", False),
        ("whole", recomputed([2]), "other tokens than recomputed", False),
        ("partial", loaded([4, 6], chunks=4), "other tokens than second recomputed", False),
        ("grpc", loaded([1], chunks=7, carrier="grpc"), "7 chunks, not 8 .store unreach", True),
        ("ucx", loaded([1], carrier="grpc"), "went over grpc", True),
        ("nvme", loaded([1], tiers=("host", "nvme")), "nvme: was found in host and nvme", True),
        ("ucx", loaded([1], tiers=()), "ucx: was found in no tier", True),
    ],
)
def test_whatever_is_not_as_claimed_is_told(
    row: str, answer: dict[str, Any], complaint: str, identical: bool
) -> None:
    report = good_report()
    getattr(report, row).add(answer)
    assert len(report.complaints) == 1
    assert re.search(complaint, report.complaints[0])
    assert report.tokens_identical is identical


def test_an_answer_that_was_cut_short_is_not_identical() -> None:
    report = good_report()
    report.ucx.answers[:] = [[1, 2], [1]]
    assert not report.tokens_identical
    assert "DIFFERENT" in report.table()

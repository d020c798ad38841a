"""What is written into docs: only between the marks, and a picture that opens."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is missing: tools/requirements-bench.txt")

from bench.fidelity.pages import BEGIN, END, picture, write_docs
from bench.fidelity.rows import Row


def made(scheme: str, bits: float, error: float) -> Row:
    return Row(
        "m",
        "bf16",
        scheme,
        "",
        error == 0,
        bits,
        bits,
        bits,
        error,
        2 * error,
        3,
        0.01,
        0.9,
        8,
        0.5,
    )


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    page = tmp_path / "codec.md"
    page.write_text(f"# Codec\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    rows = [made("16 bit", 16, 0), made("KIVI 2 bit", 3, 0.2), made("Reprise", 2, 0.1)]
    write_docs(tmp_path, rows)
    once = page.read_text()
    write_docs(tmp_path, rows)
    assert page.read_text() == once
    assert once.startswith("# Codec\n\nBefore.\n\n")
    assert once.endswith(f"{END}\n\nAfter.\n")
    assert "old" not in once
    assert (
        "| KIVI 2 bit | 3.000 | 3.000 | 3.000 | 0.2000 | 0.4000 (3) | 0.01 | 90.0% | 50% |" in once
    )
    assert "| m | bf16 | KIVI 2 bit | 3.000 | 2.000 | 0.67 | 2.000 | 0.67 |" in once
    for measure in ("mean_error", "worst_error", "kl"):
        assert (tmp_path / picture(measure)).read_bytes().startswith(b"\x89PNG")

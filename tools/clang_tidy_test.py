"""Tests of what ./dev check makes of clang-tidy's words."""

from __future__ import annotations

from tools.clang_tidy import complaints

SAID = """\
/tree/common/a.h:3:1: error: first [check-a]
int a;
^
/tree/common/a.h:2:1: note: declared here
/tree/common/b.cc:9:5: warning: second [check-b]
int b;
"""


def test_a_complaint_keeps_its_notes_and_stands_for_itself() -> None:
    first, second = complaints(SAID)
    assert first.startswith("/tree/common/a.h:3:1: error: first")
    assert first.endswith("note: declared here\n")
    assert second.startswith("/tree/common/b.cc:9:5: warning: second")


def test_words_without_a_place_are_one_complaint() -> None:
    assert complaints("clang-tidy: not found\n") == ["clang-tidy: not found\n"]
    assert complaints("") == []

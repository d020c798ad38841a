"""Every header of the tree compiles alone, and the check notices one that does not."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import nanobind

from tests.tidy.headers import complaints, generate_messages
from tests.tidy.sources import ROOT, tree


def test_headers_are_self_contained(tmp_path: Path) -> None:
    generate_messages(ROOT, tmp_path)
    headers = [Path(file.path) for file in tree() if file.path.suffix == ".h"]
    assert len(headers) > 20
    folders = [ROOT, tmp_path, Path(nanobind.include_dir()), Path(sysconfig.get_path("include"))]
    wrong = complaints(headers, folders, tmp_path)
    assert not wrong, "\n".join(f"{path}:\n{text}" for path, text in wrong.items())


def test_a_header_that_needs_another_first_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "good.h").write_text("#pragma once\n#include <vector>\nstd::vector<int> Good();\n")
    (tmp_path / "needy.h").write_text("#pragma once\nstd::vector<int> Needy();\n")
    (tmp_path / "twice.h").write_text("inline int Twice() { return 2; }\n")
    headers = [Path("good.h"), Path("needy.h"), Path("twice.h")]
    wrong = complaints(headers, [tmp_path], tmp_path)
    assert sorted(str(path) for path in wrong) == ["needy.h", "twice.h"]

"""The example of README.md does what it says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import reprise

if TYPE_CHECKING:
    from conftest import StoreProcess

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_example_publishes_and_the_next_run_loads(
    store: StoreProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert "127.0.0.1:7070" in example
    script = tmp_path / "example.py"
    script.write_text(example.replace("127.0.0.1:7070", store.address))
    runpy.run_path(str(script))
    first = capsys.readouterr().out
    assert "LoadResult(chunks=0, " in first
    assert "PublishResult(pieces_stored=2, pieces_already_held=0, " in first
    runpy.run_path(str(script))
    second = capsys.readouterr().out
    assert "LoadResult(chunks=2, " in second
    assert "PublishResult" not in second


def test_help_and_version() -> None:
    assert reprise.__doc__ is not None
    assert "client.publish(" in reprise.__doc__
    assert re.fullmatch(r"\d+\.\d+\.\d+", reprise.__version__)

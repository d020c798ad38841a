from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from bench.kv.texts import MAX_CHARACTERS, TEXTS, Text, text


def test_there_are_enough_texts_of_enough_kinds() -> None:
    assert len(TEXTS) >= 8
    assert len({entry.kind for entry in TEXTS.values()}) >= 6
    assert all(name == entry.name for name, entry in TEXTS.items())


@pytest.mark.parametrize("name", list(TEXTS))
def test_a_text_is_real_and_named_by_its_digest(name: str) -> None:
    entry = text(name)
    try:
        content = entry.content
    except LookupError as error:
        pytest.skip(str(error))
    assert 20_000 < len(content) <= MAX_CHARACTERS
    assert len(set(content)) > 40
    assert entry.sha256 == hashlib.sha256(content.encode()).hexdigest()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="licence-gpl3"):
        text("licence-gpl4")
    lost = Text("lost", "none", None, str(tmp_path / "lost"))
    with pytest.raises(LookupError, match="there is no"):
        _ = lost.content
    with pytest.raises(LookupError, match="reprise-no-such is not installed"):
        _ = dataclasses.replace(lost, distribution="reprise-no-such").content
    with pytest.raises(LookupError, match="0 files nowhere"):
        _ = dataclasses.replace(lost, distribution="pytest", path="nowhere").content

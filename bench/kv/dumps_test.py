from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.kv import dumps
from bench.kv.dump_writer import Arrays, write_manifest, write_text
from bench.kv.dumps import DumpError, load
from bench.kv.geometry import Geometry, Layer, Rope
from bench.kv.rounding import from_bf16, to_bf16, to_fp16

ROPE = Rope(10_000.0, 8, "halves")
GEOMETRY = Geometry(4, 2, 8, (Layer("full", None, ROPE), Layer("window", 3, ROPE)))
LATENT = Geometry(4, 1, 24, (Layer("latent", None, Rope(10_000.0, 8, "interleaved")),) * 2)
SHA256 = "0123456789abcdef" * 4
TOKENS = 5

Manifest = dict[str, Any]


def arrays(geometry: Geometry, tensors: str) -> list[Arrays]:
    random = np.random.default_rng(3)
    return [
        {
            tensor: random.standard_normal(
                (TOKENS, geometry.heads(tensor), geometry.head_dim)
            ).astype(np.float32)
            for tensor in tensors
        }
        for _ in geometry.layers
    ]


def write(
    directory: Path, geometry: Geometry = GEOMETRY, tensors: str = "kvq", dtypes: str = "bf16 fp16"
) -> list[Arrays]:
    layers = arrays(geometry, tensors)
    texts = [write_text(directory, name, SHA256, layers, dtypes.split()) for name in ("one", "two")]
    write_manifest(directory, model="toy", model_sha256=SHA256, geometry=geometry, texts=texts)
    return layers


def test_what_was_written_is_read(tmp_path: Path) -> None:
    layers = write(tmp_path)
    dump = load(tmp_path)
    assert (dump.model, dump.model_sha256, dump.geometry) == ("toy", SHA256, GEOMETRY)
    assert dump.dtypes == ("bf16", "fp16")
    assert [text.name for text in dump.texts] == ["one", "two"]
    text = dump.text("two")
    assert (text.tokens, text.first_position, text.sha256) == (TOKENS, 0, SHA256)
    for index, layer in enumerate(layers):
        assert text.tensors(index) == ("k", "v", "q")
        for tensor, values in layer.items():
            bits = text.stored(index, tensor, "bf16")
            np.testing.assert_array_equal(bits, to_bf16(values))
            np.testing.assert_array_equal(text.values(index, tensor, "bf16"), from_bf16(bits))
            np.testing.assert_array_equal(text.stored(index, tensor, "fp16"), to_fp16(values))
    with pytest.raises(LookupError, match="three"):
        dump.text("three")


def test_files_are_little_endian_tokens_heads_channels(tmp_path: Path) -> None:
    layers = write(tmp_path)
    data = (tmp_path / "one" / "L001.q.bf16").read_bytes()
    value = int.from_bytes(data[2 * (3 * 32 + 2 * 8 + 5) :][:2], "little")
    assert value == int(to_bf16(layers[1]["q"][3, 2, 5:6])[0])


def test_one_dtype_is_enough(tmp_path: Path) -> None:
    write(tmp_path, dtypes="fp16")
    assert load(tmp_path).dtypes == ("fp16",)


@pytest.mark.parametrize("tensors", ["k", "kq"])
def test_a_latent_layer_needs_no_v(tmp_path: Path, tensors: str) -> None:
    write(tmp_path, LATENT, tensors)
    text = load(tmp_path).texts[0]
    assert text.tensors(1) == tuple(tensors)
    assert text.values(1, "k", "fp16").shape == (TOKENS, 1, 24)


def test_values_over_fp16_are_refused_rather_than_made_infinite(tmp_path: Path) -> None:
    layers = arrays(GEOMETRY, "kvq")
    layers[1]["v"][0, 0, 0] = 7e4
    with pytest.raises(ValueError, match="layer 1, v"):
        write_text(tmp_path, "one", SHA256, layers, ["fp16"])


def put(*path_and_value: Any) -> Callable[[Manifest], None]:  # noqa: ANN401
    *path, last, value = path_and_value

    def change(manifest: Manifest) -> None:
        for step in path:
            manifest = manifest[step]
        manifest[last] = value

    return change


def drop(*path: Any) -> Callable[[Manifest], None]:  # noqa: ANN401
    def change(manifest: Manifest) -> None:
        for step in path[:-1]:
            manifest = manifest[step]
        del manifest[path[-1]]

    return change


HOSTILE = [
    (put("format", "reprise-kv-dump/2"), "format is 'reprise-kv-dump/2'"),
    (drop("format"), "format is missing"),
    (put("model", 3), "model is 3, expected a string"),
    (put("model", ""), "model is empty"),
    (put("model_sha256", "ABC"), "64 hex digits"),
    (put("layers", 3), "per_layer has 2"),
    (put("layers", True), "layers is True, expected an integer"),
    (put("layers", 2.0), "layers is 2.0, expected an integer"),
    (put("layers", 0), "expected 1 to 1000"),
    (put("layers", 10**400), "expected 1 to 1000"),
    (put("per_layer", {}), "expected a list"),
    (put("per_layer", 0, "full"), "per_layer\\[0\\]: expected an object"),
    (put("per_layer", 0, "kind", "ring"), "per_layer\\[0\\]: layer kind"),
    (put("per_layer", 0, "kind", "latent"), "layer 0 is latent, but kv_heads is 2"),
    (put("per_layer", 0, "window", 4), "kind 'full' has window 4"),
    (put("per_layer", 1, "window", None), "kind 'window' has window None"),
    (put("per_layer", 1, "window", -1), "window is -1"),
    (put("per_layer", 1, "rope", "theta", "big"), "theta is 'big', expected a number"),
    (put("per_layer", 1, "rope", "theta", 10**400), "theta is over"),
    (put("per_layer", 1, "rope", "theta", -1), "rope theta"),
    (put("per_layer", 1, "rope", "dims", 7), "rope dims must be even"),
    (put("per_layer", 1, "rope", "dims", 10), "layer 1 rotates 10 of 8"),
    (put("per_layer", 1, "rope", "pairing", "x"), "rope pairing"),
    (drop("per_layer", 1, "rope", "scale"), "scale is missing"),
    (put("q_heads", 3), "3 query heads do not share 2"),
    (put("kv_heads", -2), "kv_heads is -2"),
    (put("head_dim", 1 << 40), "head_dim is"),
    (put("texts", []), "no text"),
    (put("texts", 0, "tokens", 0), "tokens is 0"),
    (put("texts", 0, "tokens", 6), "has 160 bytes, expected 192 for \\[6, 2, 8\\]"),
    (put("texts", 0, "first_position", -1), "first_position is -1"),
    (put("texts", 0, "dir", "../one"), "leaves"),
    (put("texts", 0, "dir", "/etc"), "leaves"),
    (put("texts", 0, "dir", "three"), "no directory"),
    (put("texts", 0, "dir", "two"), "same dir"),
    (put("texts", 0, "name", "two"), "same name"),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE, ids=[message for _, message in HOSTILE])
def test_a_bad_manifest_is_refused_by_name(
    tmp_path: Path, change: Callable[[Manifest], None], message: str
) -> None:
    write(tmp_path)
    path = tmp_path / dumps.MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(DumpError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000, b'{"format": NaN}']
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    write(tmp_path)
    (tmp_path / dumps.MANIFEST).write_bytes(content)
    with pytest.raises(DumpError, match=dumps.MANIFEST):
        load(tmp_path)


def test_a_huge_manifest_is_not_read(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / dumps.MANIFEST).open("r+b") as file:
        file.truncate(dumps.MAX_MANIFEST_BYTES + 1)
    with pytest.raises(DumpError, match="at most"):
        load(tmp_path)


def test_missing_short_and_absent_files_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    short = tmp_path / "two" / "L001.v.fp16"
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(DumpError, match=r"two/L001\.v\.fp16 has 159 bytes, expected 160"):
        load(tmp_path)
    short.unlink()
    with pytest.raises(DumpError, match=r"two/L001\.v\.fp16 is missing"):
        load(tmp_path)
    for path in tmp_path.glob("*/L*"):
        path.unlink()
    with pytest.raises(DumpError, match="no text has files of bf16 or fp16"):
        load(tmp_path)
    with pytest.raises(DumpError, match="cannot be read"):
        load(tmp_path / "one")

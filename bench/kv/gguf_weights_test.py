from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the gguf package is missing: tools/requirements-bench.txt")

import gguf

from bench.kv.gguf_weights import GgufFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small file made by llama.cpp's own writer."""
    path = tmp_path / "small.gguf"
    random = np.random.default_rng(4)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list(["a", "bc", "\u00e9" * 40])
    writer.add_token_scores([0.5, 1.0, 2.0])
    writer.add_tensor("plain", random.standard_normal((3, 5)).astype(np.float32))
    values = random.standard_normal((4, 64)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("packed", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.add_tensor("row", random.standard_normal(7).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_reads_what_the_gguf_package_reads(path: Path) -> None:
    file, reader = GgufFile(path), gguf.GGUFReader(path)
    assert file.architecture == "llama"
    assert file.value("{arch}.block_count") == 2
    assert file.value("{arch}.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    assert list(file.shapes) == ["plain", "packed", "row"]
    for tensor in reader.tensors:
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        found = file.tensor(tensor.name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_what_is_not_there_is_named(path: Path) -> None:
    file = GgufFile(path)
    with pytest.raises(ValueError, match=r"no metadata 'llama\.rope\.freq_base'"):
        file.value("{arch}.rope.freq_base")
    with pytest.raises(ValueError, match="no tensor 'lost'"):
        file.tensor("lost")


def test_a_file_cut_anywhere_is_refused_or_lacks_a_tensor(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in range(1, len(whole) - 32):
        cut.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut\.gguf"):
            read_all(cut)


def read_all(path: Path) -> None:
    file = GgufFile(path)
    for name in file.shapes:
        file.tensor(name)

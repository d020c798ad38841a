"""Who learns from what: no scheme is fitted on the text that it is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the gguf package is missing: tools/requirements-bench.txt")
pytest.importorskip("zstandard", reason="zstandard is missing: tools/requirements-bench.txt")

from bench.fidelity.measure import attention_rows
from bench.kv.baselines.lossless import Plain16
from bench.kv.baselines.scheme import Calibration, Dtype, Result, Scheme, Site
from bench.kv.dump_writer import write_manifest, write_text
from bench.kv.dumps import DumpText, load
from bench.kv.geometry import Geometry, Layer, Rope

GEOMETRY = Geometry(2, 1, 8, (Layer("full", None, Rope(10_000.0, 8, "halves")),) * 2)


class Honest(Scheme):
    """Exact, but fails when it meets what it has learnt from; bits tell which text it coded."""

    name = "honest"

    def fit(self, calibration: Calibration) -> None:
        self.seen = [x for _, x in calibration]
        assert len(self.seen) == 2 * 2 * 2  # layers, K and V, texts

    def learn(self, texts: Sequence[DumpText], dtype: Dtype) -> None:
        assert len(texts) == 2
        self.seen += [text.values(0, "k", dtype) for text in texts]

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        assert not any(np.array_equal(x, known[: len(x)]) for known in self.seen)
        return [Result(x, float(x.size) * round(float(x[0, 0, 0])))]


def test_rows_average_texts_that_were_each_left_out_of_calibration(tmp_path: Path) -> None:
    entries = []
    for number in (2, 3, 7):
        layers = []
        for layer in range(2):
            random = np.random.default_rng(10 * number + layer)
            shapes = {"k": (64, 1, 8), "v": (64, 1, 8), "q": (64, 2, 8)}
            tensors = {t: random.standard_normal(s).astype(np.float32) for t, s in shapes.items()}
            for tensor in tensors.values():
                tensor[0, 0, 0] = number
            layers.append(tensors)
        entries.append(write_text(tmp_path, f"t{number}", "0" * 64, layers, ["fp16"]))
    write_manifest(tmp_path, model="m", model_sha256="0" * 64, geometry=GEOMETRY, texts=entries)
    rows = attention_rows(load(tmp_path), "fp16", lambda: [Honest(), Plain16()])
    assert [row.name for row in rows] == ["honest", "16 bit"]
    assert rows[0].bits == pytest.approx((2 + 3 + 7) / 3)
    assert (rows[0].mean_error, rows[1].bits, rows[1].lossless) == (0.0, 16.0, True)

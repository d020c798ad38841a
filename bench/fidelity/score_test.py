"""Scoring a dump that is written here: bits add up, errors belong to their layer, windows count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zstandard", reason="zstandard is missing: tools/requirements-bench.txt")

from bench.fidelity.score import calibration_of, score_attention, split_texts
from bench.kv.baselines.lossless import Plain16
from bench.kv.baselines.scheme import Result, Scheme, Site
from bench.kv.dump_writer import write_manifest, write_text
from bench.kv.dumps import Dump, load
from bench.kv.geometry import Geometry, Layer, Rope

ROPE = Rope(10_000.0, 16, "halves")
FULL, WINDOW = Layer("full", None, ROPE), Layer("window", 20, ROPE)
LATENT = Layer("latent", None, Rope(10_000.0, 8, "halves"))


def written(folder: Path, geometry: Geometry, tensors: str = "kvq", tokens: int = 300) -> Dump:
    entries = []
    for seed, name in enumerate(("one", "two")):
        random = np.random.default_rng(seed)
        layers = [
            {
                tensor: random.standard_normal(
                    (tokens, geometry.heads(tensor), geometry.head_dim)
                ).astype(np.float32)
                for tensor in tensors
            }
            for _ in geometry.layers
        ]
        entries.append(write_text(folder, name, "0" * 64, layers, ["bf16"]))
    write_manifest(folder, model="m", model_sha256="0" * 64, geometry=geometry, texts=entries)
    return load(folder)


class Scaled(Scheme):
    """Two levels: V times 1.5 in one layer at 2 bits, and exact at 16."""

    name = "scaled"
    levels = ("coarse", "exact")

    def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
        factor = 1.5 if (site.kind, site.layer) == ("v", 1) else 1.0
        return [Result(x * factor, 2.0 * x.size), Result(x, 16.0 * x.size)]


def test_an_error_shows_in_its_layer_and_level_alone(tmp_path: Path) -> None:
    dump = written(tmp_path, Geometry(4, 2, 16, (FULL, WINDOW, FULL)))
    scored, others = split_texts(dump)
    assert (scored.name, [text.name for text in others]) == ("one", ["two"])
    ((coarse, exact), (plain,)) = score_attention(scored, "bf16", [Scaled(), Plain16()])
    # 1.5 x rounds to bf16 again, which moves values by up to 2^-9.
    assert coarse.layer_errors == pytest.approx([0, 0.5, 0], abs=2e-3)
    assert coarse.layer_errors[0] == coarse.layer_errors[2] == 0
    assert exact.layer_errors == [0, 0, 0]
    assert (coarse.bits_per_value, exact.bits_per_value, plain.bits_per_value) == (2, 16, 16)
    assert coarse.point.worst_error == pytest.approx(3 * coarse.point.mean_error)


def test_a_latent_layer_counts_k_alone_and_reads_its_first_channels(tmp_path: Path) -> None:
    dump = written(tmp_path, Geometry(4, 1, 24, (LATENT,)), tensors="kq")

    class Shifted(Scheme):
        name = "shifted"

        def code_chunk(self, x: np.ndarray, site: Site) -> list[Result]:
            assert site.kind == "k"
            assert site.rope is None
            return [Result(2 * x, 3.0 * x.size)]

    ((score,),) = score_attention(dump.texts[0], "bf16", [Shifted()])
    assert score.bits_per_value == 3
    assert 0.5 < score.layer_errors[0] < 3


def test_a_layer_without_queries_says_so(tmp_path: Path) -> None:
    dump = written(tmp_path, Geometry(4, 1, 24, (LATENT,)), tensors="k")
    with pytest.raises(ValueError, match="layer 0 of one has no q"):
        score_attention(dump.texts[0], "bf16", [Plain16()])


def test_calibration_is_the_beginning_of_the_other_texts(tmp_path: Path) -> None:
    dump = written(tmp_path, Geometry(4, 2, 16, (FULL, WINDOW)), tokens=2100)
    _, others = split_texts(dump, "two")
    found = calibration_of(others, "bf16")
    assert [(site.layer, site.kind) for site, _ in found] == [
        (0, "k"),
        (0, "v"),
        (1, "k"),
        (1, "v"),
    ]
    np.testing.assert_array_equal(found[2][1], others[0].values(1, "k", "bf16")[:2048])

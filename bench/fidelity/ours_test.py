"""Our own codec as a scheme: what a profile does, and that it is learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("reprise", reason="the reprise package is missing: pip install ./client/python")

from bench.fidelity.ours import Profiled, Reprise
from bench.kv.baselines.scheme import site
from bench.kv.dump_writer import write_manifest, write_text
from bench.kv.dumps import load
from bench.kv.geometry import Geometry, Layer, Rope

DIM = 64
GEOMETRY = Geometry(2, 1, DIM, (Layer("full", None, Rope(10_000.0, DIM, "halves")),) * 2)


def test_a_profile_moves_errors_of_k_to_where_queries_are_small(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    size = np.tile(np.repeat([16.0, 1.0], 8), 4).astype(np.float32)  # the same in a pair
    layers = [
        {
            "k": 3 * random.standard_normal((256, 1, DIM)).astype(np.float32),
            "v": random.standard_normal((256, 1, DIM)).astype(np.float32),
            "q": size * random.standard_normal((256, 2, DIM)).astype(np.float32),
        }
        for _ in range(2)
    ]
    entries = [write_text(tmp_path, "t", "0" * 64, layers, ["fp16"])]
    write_manifest(tmp_path, model="m", model_sha256="0" * 64, geometry=GEOMETRY, texts=entries)
    text = load(tmp_path).texts[0]
    plain, profiled = Reprise(), Profiled()
    profiled.learn([text], "fp16")
    # Energies are 256 times apart, which makes 4 octaves.
    assert profiled.profile is not None
    assert profiled.profile.splitlines()[2].endswith(" " + 4 * ("a" * 8 + "6" * 8))

    keys, where = text.values(1, "k", "fp16"), site(GEOMETRY, 1, "k", "fp16")
    for level in range(3):
        ours, theirs = (s.encode_decode(keys, where)[level] for s in (profiled, plain))
        assert ours.bits == pytest.approx(theirs.bits, rel=0.1)
        # What attention loses: the error in a channel times the queries there.
        lost = [np.mean((size * (r.reconstruction - keys)) ** 2) for r in (ours, theirs)]
        assert lost[0] < lost[1] / 2
    exact = profiled.encode_decode(keys, where)[-1]
    assert np.array_equal(exact.reconstruction, keys)
    values = text.values(1, "v", "fp16")
    at = site(GEOMETRY, 1, "v", "fp16")
    assert [r.bits for r in plain.encode_decode(values, at)] == [
        r.bits for r in profiled.encode_decode(values, at)
    ]

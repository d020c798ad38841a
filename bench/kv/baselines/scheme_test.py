"""What holds for every baseline, and the lossless ones."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("zstandard", reason="zstandard is missing: tools/requirements-bench.txt")

from bench.kv.baselines.lossless import Zstd
from bench.kv.baselines.registry import baselines, lossless_schemes
from bench.kv.baselines.scheme import Dtype, Scheme, Site, round16
from bench.kv.geometry import Rope

ROPE = Rope(theta=10_000.0, dims=64, pairing="interleaved")
SITES = (Site("k", 0, 30, "bf16", ROPE), Site("v", 0, 30, "bf16"))


def tensor(seed: int, tokens: int, dtype: Dtype = "bf16") -> np.ndarray:
    random = np.random.default_rng(seed)
    return round16(random.standard_normal((tokens, 3, 64)).astype(np.float32), dtype)


@pytest.fixture(scope="module", params=baselines(), ids=lambda scheme: scheme.name)
def scheme(request: pytest.FixtureRequest) -> Scheme:
    request.param.fit([(where, tensor(1, 1024)) for where in SITES])
    return request.param


@pytest.mark.parametrize("where", SITES, ids=lambda where: where.kind)
@pytest.mark.parametrize("tokens", [1, 256, 300, 513])
def test_any_number_of_tokens_decodes_to_its_shape(
    scheme: Scheme, where: Site, tokens: int
) -> None:
    x = tensor(2, tokens)
    (result,) = scheme.encode_decode(x, where)
    assert result.reconstruction.shape == x.shape
    assert result.reconstruction.dtype == np.float32
    assert np.isfinite(result.reconstruction).all()
    assert result.bits > x.size


@pytest.mark.parametrize("where", SITES, ids=lambda where: where.kind)
def test_a_chunk_decodes_alone(scheme: Scheme, where: Site) -> None:
    """Nothing that is stored for one chunk depends on another."""
    x = tensor(3, 512)
    (whole,) = scheme.encode_decode(x, where)
    (second,) = scheme.encode_decode(x[256:], where.at(256))
    np.testing.assert_array_equal(whole.reconstruction[256:], second.reconstruction)


def test_nothing_is_read_from_the_input_array_after_it_is_coded(scheme: Scheme) -> None:
    x = tensor(4, 256)
    (result,) = scheme.encode_decode(x.copy(), SITES[1])
    (again,) = scheme.encode_decode(x, SITES[1])
    np.testing.assert_array_equal(result.reconstruction, again.reconstruction)
    assert result.bits == again.bits


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_zstd_sizes_fall_with_level_and_with_split_bytes(dtype: Dtype) -> None:
    x = tensor(5, 512, dtype)
    where = Site("v", 0, 30, dtype)
    sizes = [found.encode_decode(x, where)[0].bits / x.size for found in lossless_schemes()]
    assert sizes[0] == 16
    # The high byte of a Gaussian bf16 has under 3 bits of entropy, the low byte nearly 8.
    assert all(10.0 < size < 16 for size in sizes[1:])
    assert Zstd(19, split_bytes=True).encode_decode(x, where)[0].bits / x.size <= min(sizes[:-1])

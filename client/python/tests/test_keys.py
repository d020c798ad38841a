"""Namespaces and keys; no store needed."""

import numpy as np
import pytest

import reprise


def attention_namespace(**changes: object) -> reprise.Namespace:
    fields: dict[str, object] = {
        "groups": [reprise.LayerGroup([0, 1], kv_heads=2, key_dim=8, value_dim=4)],
        "kv_dtype": "bf16",
        "chunk_tokens": 16,
    }
    return reprise.Namespace("sample", **(fields | changes))  # type: ignore[arg-type]


def test_a_namespace_keeps_what_it_was_made_of() -> None:
    rope = reprise.Rope(
        "halves", rotated_dims=8, theta=10000.0, scaling="linear", scaling_parameters=[2]
    )
    group = reprise.LayerGroup(
        [3, 5], kv_heads=4, key_dim=8, value_dim=8, kind="window", window_tokens=32, rope=rope
    )
    namespace = attention_namespace(groups=[group], revision="r1", adapter="a")
    assert namespace.groups[0] == group
    assert namespace.groups[0].rope == rope
    assert (rope.pairing, rope.scaling, rope.scaling_parameters) == ("halves", "linear", [2.0])
    assert namespace.groups[0].layers_per_piece == 2  # all of them, unless said otherwise
    assert namespace.groups[0].heads_per_piece == 4
    assert (namespace.model, namespace.revision, namespace.adapter) == ("sample", "r1", "a")
    assert namespace != attention_namespace()
    assert namespace != "sample"


def test_a_namespace_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="group"):
        attention_namespace(groups=[])
    with pytest.raises(ValueError, match="fp8"):
        attention_namespace(kv_dtype="fp8")
    with pytest.raises(ValueError, match="sliding"):
        reprise.LayerGroup([0], kv_heads=1, key_dim=1, value_dim=1, kind="sliding")


def test_each_layer_group_has_its_own_rope() -> None:
    def gemma(sliding_theta: float, full: reprise.Rope) -> reprise.Namespace:
        sliding = reprise.Rope("halves", rotated_dims=8, theta=sliding_theta)
        heads = {"kv_heads": 1, "key_dim": 8, "value_dim": 8}
        return attention_namespace(
            groups=[
                reprise.LayerGroup([0, 1], kind="window", window_tokens=512, rope=sliding, **heads),
                reprise.LayerGroup([2], rope=full, **heads),
            ]
        )

    full = reprise.Rope("halves", rotated_dims=8, theta=1e6)
    scaled = reprise.Rope(
        "halves", rotated_dims=8, theta=1e6, scaling="linear", scaling_parameters=[8]
    )
    namespace = gemma(1e4, full)
    assert [group.rope.theta for group in namespace.groups] == [1e4, 1e6]
    others = {gemma(1e6, full).fingerprint, gemma(1e4, scaled).fingerprint}
    assert len({namespace.fingerprint, *others}) == 3
    with pytest.raises(ValueError, match="spelled as kind none"):
        gemma(
            1e4,
            reprise.Rope(
                "halves", rotated_dims=8, theta=1e6, scaling="linear", scaling_parameters=[1]
            ),
        )


def test_keys_depend_on_tokens_secret_and_extras() -> None:
    namespace = attention_namespace()
    tokens = np.arange(50, dtype=np.uint32)
    keys = reprise.PrefixKeys(namespace, tokens)
    assert keys.chunk_count == 3
    assert keys.pieces_per_chunk == 1
    assert keys.slots == [(0, 0, 2, 0, 2)]
    assert keys.fingerprint == namespace.fingerprint
    for same in (tokens.tolist(), tokens.astype(np.int64), np.repeat(tokens, 2)[::2]):
        assert reprise.PrefixKeys(namespace, same).key(2, 0) == keys.key(2, 0)
    secret = reprise.PrefixKeys(namespace, tokens, tenant_secret=b"s")
    assert secret.key(0, 0) != keys.key(0, 0)
    extras = reprise.PrefixKeys(namespace, tokens, extras=[b"", b"image"])
    assert extras.key(0, 0) == keys.key(0, 0)
    assert extras.key(1, 0) != keys.key(1, 0)


def test_every_piece_has_a_key_of_its_own() -> None:
    group = reprise.LayerGroup(
        [0, 1, 2], kv_heads=2, key_dim=8, value_dim=8, layers_per_piece=2, heads_per_piece=1
    )
    keys = reprise.PrefixKeys(attention_namespace(groups=[group]), range(32))
    assert keys.pieces_per_chunk == 4
    assert keys.slots[3] == (0, 2, 3, 1, 2)
    names = {keys.key(chunk, slot) for chunk in range(2) for slot in range(4)}
    assert len(names) == 8
    assert {len(name) for name in names} == {32}
    with pytest.raises(IndexError):
        keys.key(2, 0)


def test_token_ids_must_fit() -> None:
    for bad in ([-1], [2**32]):
        with pytest.raises(ValueError, match="32 bits"):
            reprise.PrefixKeys(attention_namespace(), bad)
    with pytest.raises((TypeError, RuntimeError)):
        reprise.PrefixKeys(attention_namespace(), ["a"])


@pytest.mark.parametrize("tokens", [np.zeros(256), "hello", [1.0], [None]])
def test_tokens_that_are_no_integers_are_named(tokens: object) -> None:
    with pytest.raises(TypeError, match="token ids must be integers"):
        reprise.PrefixKeys(attention_namespace(), tokens)


@pytest.mark.parametrize("token", [-1, 2**32, 2**80])
def test_a_token_that_does_not_fit_is_named(token: int) -> None:
    with pytest.raises(ValueError, match=f"{token} does not fit in 32 bits"):
        reprise.PrefixKeys(attention_namespace(), [token] * 16)

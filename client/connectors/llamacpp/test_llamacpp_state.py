"""The state blob: the arrays land where llama.cpp looks, and hostile bytes are refused."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from reprise_llamacpp import KvShape, SequenceState
from reprise_llamacpp.state import MAGIC, Bytes

SHAPE = KvShape(layers=2, kv_heads=3, head_dim=4)
TOKENS = 5
ROW_BYTES = 24
CELLS = 16
SECTION = CELLS + 12 * TOKENS
KEYS = SECTION + 16
VALUES = KEYS + 2 * (12 + TOKENS * ROW_BYTES)


def reference_blob() -> tuple[Bytes, np.ndarray, np.ndarray]:
    """A blob put together field by field, independently of the code under test."""
    generator = np.random.default_rng(7)
    dimensions = (SHAPE.layers, TOKENS, SHAPE.kv_heads, SHAPE.head_dim)
    keys, values = generator.standard_normal((2, *dimensions)).astype(np.float16)
    parts = [struct.pack("<IiII", MAGIC, 0, 1, TOKENS)]
    parts += [struct.pack("<iIi", position, 1, 0) for position in range(TOKENS)]
    parts.append(struct.pack("<IIII", 0, SHAPE.layers, 0, 0))
    for rows in (*keys, *values):
        parts += [struct.pack("<iQ", 1, ROW_BYTES), rows.tobytes()]
    return np.frombuffer(b"".join(parts), np.uint8).copy(), keys, values


def test_parse_finds_keys_and_values_without_copying() -> None:
    blob, keys, values = reference_blob()
    state = SequenceState.parse(blob, SHAPE)
    np.testing.assert_array_equal(state.keys, keys)
    np.testing.assert_array_equal(state.values, values)
    assert state.token_count == TOKENS
    assert np.shares_memory(state.keys, blob)
    assert np.shares_memory(state.values, blob)


def test_filling_a_blank_state_range_by_range_builds_the_same_bytes() -> None:
    blob, keys, values = reference_blob()
    state = SequenceState.blank(SHAPE, TOKENS)
    assert not state.keys.any()
    assert not state.values.any()
    for begin, end in ((0, 2), (2, 3), (3, TOKENS)):
        key_rows, value_rows = state.tokens(begin, end)
        key_rows[...] = keys[:, begin:end]
        value_rows[...] = values[:, begin:end]
    assert state.blob.tobytes() == blob.tobytes()


def test_rows_of_a_range_are_contiguous_in_one_layer() -> None:
    key_rows, value_rows = SequenceState.blank(SHAPE, TOKENS).tokens(1, 4)
    for layer in range(SHAPE.layers):
        assert key_rows[layer].flags.c_contiguous
        assert value_rows[layer].flags.c_contiguous


@pytest.mark.parametrize("bounds", [(0, TOKENS + 1), (-1, 2), (3, 3), (4, 2)])
def test_token_ranges_outside_the_sequence_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="are not a range of 5 tokens"):
        SequenceState.blank(SHAPE, TOKENS).tokens(*bounds)


def test_counts_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one token, got 0"):
        SequenceState.blank(SHAPE, 0)
    with pytest.raises(ValueError, match="is positive"):
        KvShape(layers=2, kv_heads=0, head_dim=4)


def write(format_: str, offset: int, *fields: int) -> Callable[[Bytes], Bytes]:
    def apply(blob: Bytes) -> Bytes:
        struct.pack_into(format_, blob, offset, *fields)
        return blob

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (write("<I", 0, 0x67677371), "starts with 0xaf143cd8, this blob with 0x67677371"),
        (write("<I", 8, 2), "holds one stream, this blob 2"),
        (write("<I", 12, 0), "its sequence is empty"),
        (write("<I", 12, TOKENS + 1), "the blob has"),
        (write("<I", 12, 0xFFFFFFFF), "4294967295 tokens"),
        (write("<i", 4, 1), "cell 0 holds position 0 of sequence 0"),
        (write("<i", CELLS + 12 * 3, 9), "cell 3 holds position 9"),
        (write("<I", CELLS + 12 * 2 + 4, 2), "cell 2 .* shared by 2"),
        (write("<i", CELLS + 12 * 4 + 8, 5), "cell 4 .* of sequence 5"),
        (write("<I", SECTION, 1), "V is stored transposed"),
        (write("<I", SECTION + 4, 3), "3 layers, the model 2"),
        (write("<I", SECTION + 8, 64), "rotated"),
        (write("<I", SECTION + 12, 64), "rotated"),
        (write("<i", KEYS, 8), "K of layer 0 has rows of 24 bytes of ggml type 8"),
        (write("<Q", VALUES + 4, 1 << 63), "V of layer 0 has rows of 9223372036854775808 bytes"),
        (write("<i", VALUES + 12 + TOKENS * ROW_BYTES, 0), "V of layer 1"),
        (lambda blob: blob[:-1], "take 620 bytes, the blob has 619"),
        (lambda blob: np.append(blob, np.uint8(0)), "take 620 bytes, the blob has 621"),
        (lambda blob: blob[: SECTION + 3], "the blob has 79"),
        (lambda blob: blob[:15], "shorter than its 16-byte header"),
        (lambda blob: blob[:0], "shorter than its 16-byte header"),
        (lambda blob: np.repeat(blob, 2)[::2], "one contiguous run of bytes"),
        (lambda blob: blob.view(np.float16), "one contiguous run of bytes"),
    ],
)
def test_damaged_blobs_are_refused(damage: Callable[[Bytes], Bytes], message: str) -> None:
    blob, _, _ = reference_blob()
    with pytest.raises(ValueError, match=message):
        SequenceState.parse(damage(blob), SHAPE)


def test_every_flipped_frame_byte_is_refused() -> None:
    """Every byte that is not a K or V value, or the sequence number's own copy, is load-bearing."""
    blob, _, _ = reference_blob()
    rows = np.zeros(blob.size, bool)
    for start in (KEYS, VALUES):
        for layer in range(SHAPE.layers):
            first = start + layer * (12 + TOKENS * ROW_BYTES) + 12
            rows[first : first + TOKENS * ROW_BYTES] = True
    for offset in np.flatnonzero(~rows):
        damaged = blob.copy()
        damaged[offset] ^= 0x80
        with pytest.raises(ValueError, match=r"\d"):
            SequenceState.parse(damaged, SHAPE)


def test_a_blob_of_another_shape_is_refused() -> None:
    blob, _, _ = reference_blob()
    with pytest.raises(ValueError, match="take 1100 bytes, the blob has 620"):
        SequenceState.parse(blob, KvShape(layers=2, kv_heads=3, head_dim=8))

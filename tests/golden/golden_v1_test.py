"""A decoder written from the pages makes of the golden pieces what codec/ makes of them."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.golden.decode_v1 import (
    KEY,
    KEY_PLANES,
    VALUE,
    VALUE_PLANES,
    Reader,
    Shape,
    decode_block,
)

FOLDER = Path(__file__).resolve().parents[2] / "codec" / "testdata"
PROGRESSIVE = 1
NOTHING = b"\2"


@dataclass
class Golden:
    container: str = ""
    input: tuple[str, ...] = ()
    levels: list[tuple[str, ...]] = field(default_factory=list)


def goldens() -> dict[str, Golden]:
    found: dict[str, Golden] = {}
    golden = Golden()
    for line in (FOLDER / "golden_v1.txt").read_text().splitlines():
        what, *words = line.split() or ["#"]
        if what == "piece":
            golden = found.setdefault(words[0], Golden())
        elif what == "container":
            golden.container = words[0]
        elif what == "input":
            golden.input = tuple(words)
        elif what == "level":
            golden.levels.append(tuple(words[1:]))
    return found


def container_of(name: str) -> bytes:
    reader = Reader((FOLDER / f"{name}.v1").read_bytes())
    container = b""
    while True:
        offset, length = reader.read("II")
        container += bytes(offset - len(container))
        if length == 0:
            return container
        container += reader.take(length)


class Piece:
    """The fields of docs/container.md that decoding takes."""

    def __init__(self, container: bytes) -> None:
        (meta_bytes,) = struct.unpack_from("<I", container, 12)
        reader = Reader(container, 113)
        self.dtype, self.codec = reader.read("BH")
        _, first, end, head, head_end, *self.dims = reader.read("7I")
        self.layers, self.heads = end - first, head_end - head
        self.position, self.tokens, levels, segments, parameters = reader.read("QIIII")
        self.parameters = reader.take(parameters)
        reader.take(levels * (8 + 8 * self.layers))
        self.segments = {}
        for _ in range(segments):
            plane, part, _, layer, token, _, offset, length, _ = reader.read("HBBIIIQII")
            at = meta_bytes + offset
            self.segments[plane, part, layer, token] = container[at : at + length]

    def shape(self, part: int) -> Shape:
        shape = Shape(self.dtype, self.heads, self.dims[part], has_scales=part == VALUE)
        if part == KEY:
            reader = Reader(self.parameters)
            version, shape.pairing, _, _, shape.first_dim, shape.rotated = reader.read("BBHIII")
            assert version == 1
            shape.rates = reader.read(f"{shape.rotated // 2}Q")
        return shape

    def decoded(self, part: int, level: int) -> bytes:
        if self.codec != PROGRESSIVE:
            found = [s for (_, p, _, _), s in self.segments.items() if p == part]
            return b"".join(found)
        (block_tokens,) = struct.unpack_from("<I", self.parameters, 4)
        own = VALUE_PLANES if part == VALUE else KEY_PLANES
        layers = []
        for layer in range(self.layers):
            for token in range(0, self.tokens, block_tokens):
                segments = [self.segments[plane, part, layer, token] for plane in range(level + 1)]
                assert all(s == NOTHING for plane, s in enumerate(segments) if plane not in own)
                layers.append(
                    decode_block(
                        self.shape(part),
                        [segment for plane, segment in enumerate(segments) if plane in own],
                        self.position + token,
                        min(block_tokens, self.tokens - token),
                    )
                )
        return np.concatenate(layers).tobytes()


@pytest.mark.parametrize("name", goldens())
def test_every_level_decodes_from_the_pages_alone(name: str) -> None:
    golden = goldens()[name]
    container = container_of(name)
    assert hashlib.sha256(container).hexdigest() == golden.container
    piece = Piece(container)
    for level, hashes in enumerate(golden.levels):
        for part, expected in enumerate(hashes):
            if expected != "-":
                found = hashlib.sha256(piece.decoded(part, level)).hexdigest()
                assert found == expected, f"part {part} at level {level}"
    assert golden.levels[-1] == golden.input

"""Decodes version 1 as docs/container.md and docs/codec-format.md describe it.

It shares no code with codec/. golden_v1_test.py holds both to the same pieces, so the pages are
enough to write a decoder from.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bits = NDArray[np.uint16]

BF16, FP16 = 1, 2
KEY, VALUE = 0, 1
NO_ROPE, INTERLEAVED = 0, 1
ESCAPE = 14
KEY_PLANES = {0: 0, 1: 1, 3: 2, 5: 3, 6: 4, 7: 5}
VALUE_PLANES = {0: 0, 2: 1, 4: 2, 5: 3, 6: 4, 7: 5}
FREQUENCIES = (
    (0, 0, 0, 0, 1, 9, 53, 53, 9, 1, 0, 0, 0, 0, 2),
    (0, 0, 0, 0, 1, 13, 49, 49, 13, 1, 0, 0, 0, 0, 2),
    (0, 0, 0, 1, 2, 16, 44, 44, 16, 2, 1, 0, 0, 0, 2),
    (0, 0, 1, 1, 4, 18, 39, 39, 18, 4, 1, 1, 0, 0, 2),
    (0, 0, 1, 2, 7, 19, 34, 34, 19, 7, 2, 1, 0, 0, 2),
    (0, 1, 1, 3, 10, 19, 29, 29, 19, 10, 3, 1, 1, 0, 2),
)
SHRINK = (
    857072, 894572, 923077, 944353, 960000, 971380, 979592, 985482,
    989691, 992688, 994819, 996331, 997403, 998162, 998700, 999080,
)  # fmt: skip
NEAR, FINE, HALF, WHOLE = range(4)
_NEAR = "13:1 12:2 11:3 10:4 9:5 8:6 E:6"
TAIL_CODES = {
    0: (
        "13:2 12:3 14:3 11:3 3:4 10:4 E:4 4:5 5:5 9:5 2:5 6:6 7:6 8:6 1:6",
        "7:2 8:2 6:3 9:3 5:4 10:4 4:5 11:5 3:6 12:6 E:5",
        "8:2 7:2 9:2 6:3 10:4 E:4",
        "8:1 7:2 9:3 E:3",
    ),
    1: (_NEAR, "8:2 9:2 10:2 11:2", "8:1 9:1", "8:0"),
    2: (
        _NEAR,
        "8:3 9:3 10:3 11:3 12:3 13:3 7:3 E:3",
        "8:2 9:2 10:2 7:3 E:3",
        "8:1 9:2 7:3 E:3",
    ),
}


@dataclass
class Reader:
    data: bytes
    at: int = 0

    def take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        assert len(taken) == size
        self.at += size
        return taken

    def read(self, form: str) -> tuple:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def one(self, form: str):  # noqa: ANN201
        return self.read(form)[0]

    def numbers(self, count: int) -> list[int]:
        smallest, width = self.read("hB")
        packed = int.from_bytes(self.take((count * width + 7) // 8), "little")
        return [smallest + (packed >> i * width & (1 << width) - 1) for i in range(count)]


@dataclass
class Streams:
    """One plane's streams and escapes."""

    states: list[NDArray[np.int64]] = field(default_factory=list)
    words: list[Iterator[int]] = field(default_factory=list)
    escapes: Iterator[int] = field(default_factory=lambda: iter(()))

    @staticmethod
    def read(reader: Reader, count: int, escape: str) -> Streams:
        streams = Streams()
        for words in reader.read(f"{count}I"):
            streams.states.append(np.array(reader.read("32I"), np.int64))
            streams.words.append(iter(reader.read(f"{words}H")))
        streams.escapes = iter(reader.read(f"{reader.one('I')}{escape}"))
        return streams

    def refill(self, stream: int) -> None:
        states = self.states[stream]
        for lane in np.flatnonzero(states < 1 << 16):
            states[lane] = states[lane] << 16 | next(self.words[stream])

    def used_up(self) -> bool:
        return not any(True for rest in (*self.words, self.escapes) for _ in rest)


@dataclass
class Group:
    channels: list[int]  # head * dims + dim, in coding order
    pairs: list[int] | None  # of each two channels, where rope turns them


@dataclass
class Channel:
    step: np.float32
    mean: np.float32
    quarter: int  # class - 32
    entry: int
    table: int = 0
    extra: list[bytes] = field(default_factory=list)  # raw bits behind the symbol


@dataclass
class Shape:
    dtype: int
    heads: int
    dims: int
    pairing: int = NO_ROPE
    first_dim: int = 0
    rotated: int = 0
    rates: tuple[int, ...] = ()
    has_scales: bool = False

    def groups(self) -> Iterator[Group]:
        first, size = self.first_dim, self.rotated
        for head in range(self.heads):
            stretches = [(range(first), False), (range(first, first + size), True)]
            stretches.append((range(first + size, self.dims), False))
            for stretch, turned in stretches:
                dims = list(stretch)
                if turned and self.pairing != INTERLEAVED:
                    dims = [first + i // 2 + i % 2 * (size // 2) for i in range(size)]
                for at in range(0, len(dims), 32):
                    part = dims[at : at + 32]
                    pairs = [at // 2 + i for i in range(len(part) // 2)] if turned else None
                    yield Group([head * self.dims + dim for dim in part], pairs)

    def tiles(self) -> list[list[Group]]:
        tiles: list[list[Group]] = []
        for group in self.groups():
            size = sum(len(g.channels) for g in tiles[-1]) if tiles else 256
            if size + len(group.channels) > 256:
                tiles.append([])
            tiles[-1].append(group)
        return tiles


def widen(bits: Bits, dtype: int) -> Floats:
    if dtype == FP16:
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bits(values: Floats, dtype: int) -> Bits:
    if dtype == FP16:
        return np.clip(values, -65504, 65504).astype(np.float16).view(np.uint16)
    return ((values.view(np.uint32).astype(np.uint64) + 0x8000) >> 16).astype(np.uint16)


def exponent_of(step: np.float32, dtype: int) -> int:
    """The exponent field of a step in the dtype, ties to even."""
    if dtype == FP16:
        return int(np.minimum(step, np.float32(65504)).astype(np.float16).view(np.uint16)) >> 10
    bits = int(np.float32(step).view(np.uint32))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 23


def sine_cosine(turns: int) -> tuple[np.float32, np.float32]:
    quarter = ((turns + (1 << 61)) >> 62) & 3
    rest = turns - (((turns + (1 << 61)) >> 62) << 62)
    x = float(rest) * (2 * math.pi * 2.0**-64)
    s = x * x
    sine = x * (1 + s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880)))))
    cosine = 1 + s * (-0.5 + s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320))))
    a, b = np.float32(sine), np.float32(cosine)
    return ((a, b), (b, -a), (-a, -b), (-b, a))[quarter]


def tail_tables(kind: int) -> list[list[tuple[int | None, int]]]:
    """For each context, symbol (None: escape) and length by the next six bits."""
    tables = []
    for words in TAIL_CODES[kind]:
        table: list[tuple[int | None, int]] = [(None, 0)] * 64
        place = 0
        for word in words.split():
            symbol, length = word.split(":")
            bits = int(length)
            start = int(f"{place:06b}"[::-1], 2)
            for slot in range(start, 64, 1 << bits):
                table[slot] = (None if symbol == "E" else int(symbol), bits)
            place += 64 >> bits
        tables.append(table)
    return tables


class Tile:
    def __init__(self, shape: Shape, groups: list[Group], tokens: int, position: int) -> None:
        self.shape, self.groups, self.position = shape, groups, position
        self.rows = -(-tokens // 32)
        self.lanes = 32 * self.rows
        self.scales = np.ones(self.lanes, np.float32)

    def decode(self, base: np.float32, parts: list[bytes]) -> dict[int, Bits]:
        """Bits of every lane of each channel."""
        readers = [Reader(part) for part in parts]
        self.level = min(len(parts), 5) - 1
        self.read_channels(base, readers[0])
        self.planes: list[Streams] = []
        for plane, reader in enumerate(readers[:5]):
            entering = any(c.entry == plane for c in self.channels)
            count = min(4, self.rows) if plane == 0 else 1
            self.planes.append(Streams.read(reader, count, "h") if entering else Streams())
            for channel in self.channels:
                extra = max(0, -(-(channel.quarter - 3) // 4)) if channel.entry == 0 else 0
                for _ in range(extra if plane == 0 else int(channel.entry < plane)):
                    channel.extra.append(reader.take(4 * self.rows))
        kind = readers[5].one("B") if len(parts) == 6 else None
        if kind is not None:
            self.planes.append(Streams.read(readers[5], min(2, self.rows), "H"))
        assert all(reader.at == len(reader.data) for reader in readers)
        decoded = self.values(kind)
        assert all(plane.used_up() for plane in self.planes)
        return decoded

    def read_channels(self, base: np.float32, reader: Reader) -> None:
        if self.shape.has_scales:
            smallest = reader.one("b")
            nibbles = np.frombuffer(reader.take(16 * self.rows), np.uint8)
            above = np.stack([nibbles & 15, nibbles >> 4], axis=1).ravel()
            self.scales = np.ldexp(np.float32(1), smallest + above.astype(np.int32))
        units = [
            1 if group.pairs is None else 2
            for group in self.groups
            for _ in range(len(group.channels) // (1 if group.pairs is None else 2))
        ]
        octaves = np.repeat(reader.numbers(len(units)), units)
        classes = reader.numbers(len(octaves))
        means = reader.numbers(len(octaves))
        self.channels = []
        for octave, stored, mean in zip(octaves, classes, means, strict=True):
            step = base * np.float32(2.0 ** -int(octave))
            quarter = stored - 32
            entry = max(0, -(-(-2 - quarter) // 4)) if stored else 5
            extra = max(0, -(-(quarter - 3) // 4))
            self.channels.append(
                Channel(step, np.float32(mean) * (step * np.float32(0.5)), quarter, min(entry, 5),
                        quarter + 4 * entry - 4 * extra + 2)
            )  # fmt: skip

    def cells(self, channel: Channel) -> NDArray[np.int64]:
        streams = self.planes[channel.entry]
        frequencies = np.array(FREQUENCIES[channel.table], np.int64)
        symbol_of = np.repeat(np.arange(15), frequencies)
        first = np.concatenate([[0], np.cumsum(frequencies)])
        cells = np.zeros(self.lanes, np.int64)
        for row in range(self.rows):
            stream = row % len(streams.states)
            states = streams.states[stream]
            slots = states & 127
            symbols = symbol_of[slots]
            states[:] = frequencies[symbols] * (states >> 7) + slots - first[symbols]
            streams.refill(stream)
            cells[row * 32 : row * 32 + 32] = symbols - 7
        for lane in np.flatnonzero(cells == ESCAPE - 7):
            cells[lane] = next(streams.escapes)
        for bits in channel.extra:
            cells = 2 * cells + np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
        return cells

    def placed(self, channel: Channel, to_end: bool, exact: bool) -> Floats:
        if channel.entry > self.level:
            return np.full(self.lanes, channel.mean, np.float32)
        half = channel.step / np.float32(2 << self.level)
        index = channel.quarter + 4 * self.level + 2
        shrink = np.float32(SHRINK[index] / 1e6) if index < 16 else np.float32(1)
        size = half if exact and to_end else half * shrink
        cells = self.cells(channel)
        values = ((2 * cells + 1).astype(np.float32) * size) * self.scales + channel.mean
        if exact and to_end:
            values = np.copysign(np.abs(values) - size * self.scales, values)
        return values

    def values(self, kind: int | None) -> dict[int, Bits]:
        decoded: dict[int, Bits] = {}
        at = 0
        for group in self.groups:
            together = 1 if group.pairs is None else 2
            for k in range(0, len(group.channels), together):
                channels = self.channels[at : at + together]
                at += together
                floats = [self.placed(c, group.pairs is None, kind is not None) for c in channels]
                if group.pairs is not None:
                    floats = self.turned(floats[0], floats[1], group.pairs[k // 2])
                for i, channel in enumerate(channels):
                    bits = to_bits(floats[i], self.shape.dtype)
                    if kind is not None:
                        table = tail_tables(0 if group.pairs is not None else kind)
                        bits = self.exact(channel, bits, table)
                    decoded[group.channels[k + i]] = bits
        return decoded

    def turned(self, a: Floats, b: Floats, pair: int) -> list[Floats]:
        rate = self.shape.rates[pair]
        turns = [(self.position + i) * rate % 2**64 for i in range(self.lanes)]
        sine, cosine = np.array([sine_cosine(t) for t in turns], np.float32).T
        return [a * cosine - b * sine, b * cosine + a * sine]

    def exact(
        self, channel: Channel, guess: Bits, tables: list[list[tuple[int | None, int]]]
    ) -> Bits:
        streams = self.planes[5]
        mantissa = 7 if self.shape.dtype == BF16 else 10
        bits = guess.copy()
        for lane, guessed in enumerate(int(g) for g in guess):
            stream = lane // 32 % len(streams.states)
            states = streams.states[stream]
            step = channel.step / np.float32(16) * self.scales[lane]
            exponent = exponent_of(step, self.shape.dtype)
            floor = max(exponent - 6, 0) << mantissa
            above = ((guessed & 0x7FFF) >> mantissa) - exponent
            spare = mantissa - above
            context = NEAR if above < 0 else FINE if spare >= 2 else HALF if spare == 1 else WHOLE
            low_bits = mantissa if context == NEAR else max(spare - 2, 0)
            negative = guessed >= 0x8000
            state = int(states[lane % 32])
            symbol, length = tables[context][state & 63]
            low = state >> length & (1 << low_bits) - 1
            states[lane % 32] = state >> (length + low_bits)
            if symbol is None:
                bits[lane] = next(streams.escapes)
            else:
                order = max(guessed & 0x7FFF, floor) - floor
                origin = 0 if context == NEAR else ~order if negative else order
                distance = ((symbol - 8) << low_bits) + low
                order = (origin + (~distance if negative else distance)) & 0xFFFF
                sign = order & 0x8000
                bits[lane] = ((~order if sign else order) + floor) & 0x7FFF | sign
            if lane % 32 == 31:
                streams.refill(stream)
        return bits


def decode_block(shape: Shape, planes: list[bytes], position: int, tokens: int) -> Bits:
    """[tokens, heads * dims]."""
    readers = [Reader(plane) for plane in planes]
    (mode,) = {reader.one("B") for reader in readers}
    width = shape.heads * shape.dims
    if mode == 0:
        return np.frombuffer(readers[0].take(2 * tokens * width), np.uint16).reshape(tokens, width)
    base = np.float32(readers[0].one("f"))
    sinks = min(4, tokens) if position == 0 else 0
    result = np.zeros((tokens, width), np.uint16)
    kept = np.frombuffer(readers[0].take(2 * sinks * width), np.uint16).reshape(sinks, width)
    spans = range(0, tokens, 256)
    tiles = shape.tiles()
    lengths = [iter(reader.read(f"{len(spans) * len(tiles)}I")) for reader in readers]
    for first in spans:
        count = min(256, tokens - first)
        for groups in tiles:
            parts = [r.take(next(n)) for r, n in zip(readers, lengths, strict=True)]
            tile = Tile(shape, groups, count, position + first)
            for channel, bits in tile.decode(base, parts).items():
                result[first : first + count, channel] = bits[:count]
    assert all(reader.at == len(reader.data) for reader in readers)
    result[:sinks] = kept
    return result

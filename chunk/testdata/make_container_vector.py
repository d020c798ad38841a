#!/usr/bin/env python3
"""Writes container_v1.hex: an implementation of docs/container.md that shares no code with chunk/.

Usage: python3 make_container_vector.py > container_v1.hex

The piece: a sliding-window group, layers 4 and 5, heads 2..4, 5 tokens, two planes. Byte i of
segment s is (37 * s + i) mod 256. container_test.cc describes the same piece in C++.
"""

import hashlib
import struct

PAGE = 4096
KEY, VALUE = 0, 1


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def align(value: int) -> int:
    return -(-value // PAGE) * PAGE


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


# plane, part, layer, first token, tokens, length
SEGMENTS = [
    (0, KEY, 0, 0, 3, 24),
    (0, KEY, 0, 3, 2, 16),
    (0, VALUE, 0, 0, 5, 31),
    (0, KEY, 1, 0, 5, 40),
    (0, VALUE, 1, 0, 5, 1),
    (1, KEY, 0, 0, 5, 7),
    (1, VALUE, 0, 0, 5, 8),
    (1, KEY, 1, 0, 5, 9),
    (1, VALUE, 1, 0, 1, 10),
    (1, VALUE, 1, 1, 4, 11),
]
DISTORTIONS = [[(0.5, 0.25), (0.125, 0.75)], [(0.0, 0.0), (0.0, 0.0)]]
PARAMETERS = b"abc"


def build() -> bytes:
    body, directory, ends = b"", b"", {}
    for index, (plane, part, layer, token, tokens, length) in enumerate(SEGMENTS):
        if plane not in ends:
            body = body.ljust(align(len(body)), b"\0")
        data = bytes((37 * index + i) % 256 for i in range(length))
        place = (plane, part, 0, layer, token, tokens, len(body))
        directory += struct.pack("<HBBIIIQII", *place, length, crc32c(data))
        body += data
        ends[plane] = len(body)
    levels = b""
    for plane, layers in enumerate(DISTORTIONS):
        levels += struct.pack("<Q", ends[plane])
        levels += b"".join(struct.pack("<ff", *layer) for layer in layers)
    names = digest("key") + digest("namespace")
    kinds = struct.pack("<BBH", 2, 2, 0)
    shape = struct.pack("<IIIIIIIQI", 7, 4, 6, 2, 5, 8, 6, 512, 5)
    counts = struct.pack("<III", len(DISTORTIONS), len(SEGMENTS), len(PARAMETERS))
    after_id = names + kinds + shape + counts + PARAMETERS + levels + directory
    meta_bytes = align(48 + len(after_id))
    preamble = b"\x89REPRISE" + struct.pack("<HHI", 1, 0, meta_bytes)
    content_id = hashlib.sha256(preamble + after_id).digest()
    return (preamble + content_id + after_id).ljust(meta_bytes, b"\0") + body


def main() -> None:
    container = build()
    print("# A container of version 1, made by make_container_vector.py.")
    print("# Lines: offset, 32 bytes; lines of zeros are left out.")
    print("size", len(container))
    for offset in range(0, len(container), 32):
        line = container[offset : offset + 32]
        if any(line):
            print(offset, line.hex())


if __name__ == "__main__":
    main()

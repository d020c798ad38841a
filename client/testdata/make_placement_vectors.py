"""Writes placement_vectors.txt, from docs/placement.md alone.

Each line: unit (hex), nodes as id=weight with commas between, their ids in the order to ask them.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

TAG = b"reprise/place/1"
EVEN = {"10.0.0.1:7070": 1, "10.0.0.2:7070": 1, "10.0.0.3:7070": 1}
UNEVEN = {"a": 1, "b": 4, "c": 2, "store-3.example:7070": 3}


def score(unit: bytes, node: str, weight: int) -> float:
    digest = hashlib.sha256(TAG + unit + node.encode()).digest()
    u = int.from_bytes(digest[:8], "little") / 2**64
    return -math.log2(u) / weight


def main() -> None:
    lines = []
    for nodes in (EVEN, UNEVEN):
        for number in range(12):
            unit = hashlib.sha256(b"run %d" % number).digest()
            scores = sorted((score(unit, node, weight), node) for node, weight in nodes.items())
            listed = ",".join(f"{node}={weight}" for node, weight in nodes.items())
            lines.append(f"{unit.hex()} {listed} {','.join(node for _, node in scores)}\n")
    Path(__file__).with_name("placement_vectors.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()

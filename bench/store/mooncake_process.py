"""One process of Mooncake Store over TCP; bench/store/rivals.py starts it.

    mooncake_process.py MASTER hold BYTES                 gives memory to the store
    mooncake_process.py MASTER move VALUE_BYTES VALUES    for each line of stdin, "put BATCH" or
                                                          "get BATCH", moves all values

Values go from and into registered memory (the zero-copy calls), BATCH of them in a call.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from mooncake.store import MooncakeDistributedStore

LOCAL_BUFFER_BYTES = 16 << 20


def connect(master: str, segment_bytes: int) -> MooncakeDistributedStore:
    store = MooncakeDistributedStore()
    status = store.setup(
        "127.0.0.1", "P2PHANDSHAKE", segment_bytes, LOCAL_BUFFER_BYTES, "tcp", "", master
    )
    if status != 0:
        raise SystemExit(f"Mooncake's setup failed with status {status}")
    return store


class Mover:
    """The client's side: as many values as the working set has, in one registered region."""

    def __init__(self, master: str, value_bytes: int, values: int) -> None:
        self._store = connect(master, 0)
        self._value_bytes = value_bytes
        words = np.random.default_rng(1).integers(1 << 62, size=values * value_bytes // 8)
        self._memory = words.view(np.uint8).reshape(values, value_bytes)
        address = self._memory.ctypes.data
        if self._store.register_buffer(address, self._memory.nbytes) != 0:
            raise SystemExit("Mooncake cannot register the values' memory")
        self._keys = [f"value-{i}" for i in range(values)]
        self._addresses = [address + i * value_bytes for i in range(values)]

    def put(self, batch: int) -> float:
        for key in self._keys:
            self._store.remove(key, True)
        return self._move(self._store.batch_put_from, batch, 0)

    def get(self, batch: int) -> float:
        return self._move(self._store.batch_get_into, batch, self._value_bytes)

    def _move(self, call, batch: int, expected: int) -> float:  # noqa: ANN001
        start = time.perf_counter()
        for i in range(0, len(self._keys), batch):
            keys = self._keys[i : i + batch]
            sizes = [self._value_bytes] * len(keys)
            results = call(keys, self._addresses[i : i + batch], sizes)
            if any(result != expected for result in results):
                raise SystemExit(f"Mooncake failed with {sorted(set(results))}")
        return time.perf_counter() - start


def main(master: str, work: str, *sizes: str) -> None:
    if work == "hold":
        store = connect(master, int(sizes[0]))
        print("ready", flush=True)
        sys.stdin.read()
        store.close()
        return
    mover = Mover(master, int(sizes[0]), int(sizes[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        kind, batch = line.split()
        print(json.dumps({"seconds": getattr(mover, kind)(int(batch))}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

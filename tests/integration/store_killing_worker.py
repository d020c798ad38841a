"""A worker whose store is killed at a chosen moment: PID BYTES WORKER-ARGUMENTS...

Runs `reprise_llamacpp.worker` as it is, beside a thread that kills process PID with SIGKILL once
the worker's client has received BYTES. Nothing outside the process can see that moment.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import reprise
from reprise_llamacpp import worker


def main() -> int:
    store_pid, threshold_bytes = int(sys.argv[1]), int(sys.argv[2])
    connect = reprise.connect

    def kill_after(client: reprise.Client) -> None:
        while client.counters["bytes_received"] < threshold_bytes:
            pass
        os.kill(store_pid, signal.SIGKILL)

    def connect_and_watch(address: str, **options: object) -> reprise.Client:
        client = connect(address, **options)
        threading.Thread(target=kill_after, args=(client,), daemon=True).start()
        return client

    reprise.connect = connect_and_watch
    return worker.main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())

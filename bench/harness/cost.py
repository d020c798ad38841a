"""What moving bytes took a side, and how processes are asked for it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Goodput in GB/s (1e9); user and system seconds for each GB."""

    goodput: float
    cpu_seconds_per_gb: float

    @staticmethod
    def of(size_bytes: float, seconds: float, cpu_seconds: float) -> Cost:
        return Cost(size_bytes / seconds / 1e9, cpu_seconds / (size_bytes / 1e9))


def cpu_seconds(*pids: int) -> float:
    """What these living processes have used so far, in ticks of the clock."""
    ticks = 0
    for pid in pids:
        # The name may hold blanks; utime and stime are fields 14 and 15 of proc_pid_stat(5).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def run_measured(
    command: list[str], environment: dict[str, str], folder: Path | None = None
) -> tuple[str, float]:
    """What a command prints, and the CPU seconds it took. CalledProcessError when it fails."""
    with subprocess.Popen(
        command,
        env={**os.environ, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return printed, usage.ru_utime + usage.ru_stime

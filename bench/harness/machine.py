"""Names the machine and the commit that a figure was taken on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def machine() -> str:
    """For instance "AMD EPYC 9B45, 2 cores, 24 GiB, Linux 6.1"."""
    kernel = ".".join(platform.release().split(".")[:2])
    memory_gib = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return f"{_processor()}, {os.cpu_count()} cores, {memory_gib} GiB, {platform.system()} {kernel}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def commit(root: Path) -> str:
    """The short hash; "+changes" when tracked files differ; "unknown" outside a repository."""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    return head + (
        "+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    )


def _git(root: Path, *arguments: str) -> str:
    try:
        run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""

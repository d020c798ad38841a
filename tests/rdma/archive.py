"""A Linux initramfs: a cpio archive of the "newc" kind, written without a staging directory.

The format is the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_ALIGN = 4


class Archive:
    """Entries go to `stream` as they are added; every path once, its directories before it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._paths: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path.lstrip("/") in self._paths

    def add_directory(self, path: str) -> None:
        self._add(path, stat.S_IFDIR | 0o755, b"")

    def add_bytes(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._add(path, stat.S_IFREG | mode, data)

    def add_file(self, source: Path, path: str | None = None) -> None:
        """The file that `source` names or links to, at `path` or at its own path."""
        mode = 0o755 if source.stat().st_mode & 0o111 else 0o644
        self.add_bytes(path or str(source), source.read_bytes(), mode)

    def add_link(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def close(self) -> None:
        self._write("TRAILER!!!", 0, b"")

    def _add(self, path: str, mode: int, data: bytes) -> None:
        name = path.lstrip("/")
        if name in self._paths:
            return
        for parent in reversed(PurePosixPath(name).parents):
            if str(parent) != "." and str(parent) not in self._paths:
                self._paths.add(str(parent))
                self._write(str(parent), stat.S_IFDIR | 0o755, b"")
        self._paths.add(name)
        self._write(name, mode, data)

    def _write(self, name: str, mode: int, data: bytes) -> None:
        inode = len(self._paths)
        links, owner, device, check = 1, 0, 0, 0
        encoded = name.encode() + b"\0"
        fields = (inode, mode, owner, owner, links, 0, len(data))
        fields += (device, device, device, device, len(encoded), check)
        head = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._stream.write(_padded(head + encoded))
        self._stream.write(_padded(data))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGN)

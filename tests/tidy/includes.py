"""The include table: which folder may include which, ours and third-party.

It says for code what docs/architecture.md says for readers. A folder may always include itself.
The longest entry that matches a file's path counts.
"""

from __future__ import annotations

import re

from tests.tidy.sources import SourceFile

_BELOW_SERVICES = ("common", "proto", "chunk", "codec", "transport", "storage", "planner", "client")

ALLOWED: dict[str, tuple[str, ...]] = {
    "common": (),
    "proto": (),
    "chunk": ("common",),
    "codec": ("common", "chunk"),
    "transport": ("common",),
    "storage": ("common", "chunk"),
    "planner": ("common",),
    "client": ("common", "proto", "chunk", "codec", "transport", "planner", "storage/gpu"),
    "services": _BELOW_SERVICES,
    # The store moves opaque segments; it neither decodes them nor asks another store.
    "services/store": ("common", "proto", "chunk", "transport", "storage"),
    "tests": (*_BELOW_SERVICES, "services"),
    "bench": (*_BELOW_SERVICES, "services", "tests"),
}

# Third-party headers stay behind the folder that adapts them, so that one folder knows their
# exceptions, threads and versions. Headers that no entry names may be used anywhere.
THIRD_PARTY: dict[str, tuple[str, ...]] = {
    r"uc[pst]/": ("transport/ucx", "bench", "tests"),
    r"grpc(pp)?/": ("transport/grpc", "bench", "tests"),
    r"nanobind/": ("client/python",),
    r"openssl/": ("common", "services"),
    r"isa-l": ("common", "bench"),
    r"prometheus/|httplib\.h": ("services", "tests"),
    r"yaml-cpp/": ("services", "tests", "bench"),
    r"CLI/": ("services", "bench", "tests"),
    r"rocksdb/|liburing": ("storage",),
}

_INCLUDE = re.compile(r'^\s*#\s*include\s*(?P<open>[<"])(?P<name>[^">]+)')


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _owner(path: str) -> str | None:
    folders = [folder for folder in ALLOWED if _inside(path, folder)]
    return max(folders, key=len, default=None)


def check_includes(file: SourceFile) -> list[str]:
    """Includes of ours that point up or sideways, and third-party ones outside their adapter."""
    path = str(file.path)
    owner = _owner(path)
    found = []
    for number, line in enumerate(file.lines, 1):
        match = _INCLUDE.match(line)
        if not match:
            continue
        name = match["name"]
        if _owner(name) and match["open"] == '"':
            allowed = ALLOWED[owner] if owner else ()
            if not any(_inside(name, folder) for folder in (*allowed, owner or "")):
                found.append(f"{path}:{number}: {owner} may not include {name}")
        for pattern, folders in THIRD_PARTY.items():
            if re.match(pattern, name) and not any(_inside(path, folder) for folder in folders):
                found.append(f"{path}:{number}: {name} is only for {', '.join(folders)}")
    return found

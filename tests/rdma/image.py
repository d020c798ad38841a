"""What a machine boots: Debian's kernel with the modules of Soft-RoCE, and an initramfs that holds
the programs under test with every library they load."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.rdma.archive import Archive

# rdma_rxe is Soft-RoCE; it takes its checksums from the kernel's "crc32".
MODULES = (
    "virtio_pci",
    "virtio_net",
    "crc32_generic",
    "crc32_pclmul",
    "ib_uverbs",
    "rdma_ucm",
    "rdma_rxe",
)
BUSYBOX = Path("/bin/busybox")
GUEST = Path(__file__).parent / "guest"


class SetupError(Exception):
    """The machines cannot be made; the text says what to do."""


def fetch_kernel(cache: Path) -> Path:
    """A directory with `vmlinuz` and the modules, named in the order to load them.

    The kernel package is downloaded and unpacked, not installed: nothing of this system changes.
    """
    stamp = hashlib.sha256(" ".join(MODULES).encode()).hexdigest()[:12]
    kernel = cache / f"kernel-{stamp}"
    if kernel.is_dir():
        return kernel
    unfinished = cache / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    package = _newest_kernel()
    _run(["apt-get", "-o", "APT::Sandbox::User=root", "download", package], unfinished)
    _run(["dpkg", "-x", str(next(unfinished.glob("*.deb"))), "tree"], unfinished)
    tree = unfinished / "tree"
    release = package.removeprefix("linux-image-")
    _run(["/sbin/depmod", "-b", str(tree), release], unfinished)
    ready = unfinished / "ready"
    ready.mkdir()
    for number, module in enumerate(_modules_in_order(tree, release)):
        shutil.copy(module, ready / f"{number:02d}-{module.name}")
    shutil.copy(tree / "boot" / f"vmlinuz-{release}", ready / "vmlinuz")
    ready.rename(kernel)
    shutil.rmtree(unfinished)
    return kernel


def _newest_kernel() -> str:
    listed = _run(["apt-cache", "depends", "linux-image-amd64"])
    found = re.search(r"Depends: (linux-image-\S+)", listed)
    if found is None:
        raise SetupError("apt knows no linux-image-amd64; as root: apt-get update")
    return found[1]


def _modules_in_order(tree: Path, release: str) -> list[Path]:
    modprobe = ["/sbin/modprobe", "-d", str(tree), "-S", release, "--show-depends", "-a"]
    lines = _run([*modprobe, *MODULES]).splitlines()
    loaded = [line.split()[1] for line in lines if line.startswith("insmod ")]
    return [Path(path) for path in dict.fromkeys(loaded)]


def write_initramfs(path: Path, kernel: Path, programs: dict[str, Path], data: Path) -> None:
    """The guest's scripts, `programs` as /bin/NAME, the tree `data` as /data, and libraries."""
    with path.open("wb") as stream:
        archive = Archive(stream)
        for directory in ("dev", "proc", "sys", "tmp", "run", "root"):
            archive.add_directory(directory)
        archive.add_link("lib", "usr/lib")
        archive.add_link("lib64", "usr/lib64")
        for module in sorted(kernel.glob("*.ko*")):
            archive.add_file(module, f"modules/{module.name}")
        archive.add_file(BUSYBOX, "bin/busybox")
        for name in _run([str(BUSYBOX), "--list"]).split():
            if name not in programs and name != "busybox":
                archive.add_link(f"bin/{name}", "busybox")
        for script in sorted(GUEST.iterdir()):
            archive.add_file(script, "init" if script.name == "init.sh" else f"guest/{script.name}")
        for name, program in programs.items():
            archive.add_file(program, f"bin/{name}")
        for file in sorted(data.rglob("*")):
            if file.is_file():
                archive.add_file(file, f"data/{file.relative_to(data)}")
        for library in libraries_of(programs.values()):
            # Some name them below /lib and others below /usr/lib: one directory, by way of a link.
            archive.add_file(library, str(library.parent.resolve() / library.name))
        archive.add_bytes("etc/libibverbs.d/rxe.driver", b"driver rxe\n")
        archive.add_bytes("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        archive.add_bytes("etc/hosts", b"127.0.0.1 localhost\n")
        archive.close()


def libraries_of(programs: Iterable[Path]) -> list[Path]:
    """The libraries that the programs link to or load by name, as absolute paths."""
    wanted = [str(program) for program in programs]
    found: dict[str, None] = {}
    while wanted:
        linked = subprocess.run(["ldd", wanted.pop()], capture_output=True, text=True, check=False)
        for library in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", linked.stdout, re.MULTILINE):
            if library in found:
                continue
            found[library] = None
            for plugin in _plugins_of(Path(library)):
                found[str(plugin)] = None
                wanted.append(str(plugin))
    return [Path(library) for library in found]


def _plugins_of(library: Path) -> Sequence[Path]:
    """Libraries that this one opens at run time: ldd does not see them."""
    if library.name.startswith("libuct.so"):
        return sorted((library.parent / "ucx").glob("*.so.0"))
    if library.name.startswith("libibverbs.so"):
        return sorted((library.parent / "libibverbs").glob("librxe*.so"))
    if library.name.startswith("libc.so"):
        return [library.parent / "libgcc_s.so.1"]  # when a thread is cancelled
    return []


def _run(command: Sequence[str], directory: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, check=True, env=_plain_words()
        )
    except FileNotFoundError as error:
        raise SetupError(f"{command[0]} is not installed: {error}") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SetupError(f"`{' '.join(command)}` failed: {last}") from error
    return done.stdout


def _plain_words() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}

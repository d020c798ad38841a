"""Machines in QEMU's software emulation, joined by two networks: one carries RoCE and nothing else,
the other everything else. What one prints on its second serial port is its output."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Printed by guest/init.sh after the machine's script, with its exit status.
END = "@end "
POLL_S = 0.2


@dataclass
class Machine:
    """One running machine. `lines` is what it has printed so far."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path
    console: Path
    lines: list[str] = field(default_factory=list)
    status: int | None = None
    _read_bytes: int = 0

    def read(self, on_line: Callable[[str, str], None]) -> None:
        """Takes in the whole lines that are new."""
        if not self.output.exists():
            return
        with self.output.open("rb") as stream:
            stream.seek(self._read_bytes)
            fresh = stream.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for raw in whole.decode(errors="replace").splitlines():
            line = raw.rstrip()
            if line.startswith(END):
                self.status = int(line.removeprefix(END))
                continue
            self.lines.append(line)
            on_line(self.name, line)

    def runs_on(self, wait_s: float) -> bool:
        """False as soon as the machine has ended, true when it still runs after `wait_s`."""
        try:
            self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return True
        return False

    def last_words(self) -> str:
        """The end of the kernel's console, for a machine that ended without a status."""
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-20:])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def boot(name: str, number: int, kernel: Path, initramfs: Path, work: Path) -> Machine:
    """Starts machine `number` (0 or 1); number 0 opens the networks' sockets in `work`."""
    output, console = work / f"{name}.out", work / f"{name}.console"
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"]
    command += ["-smp", "1", "-m", "1536M", "-nodefaults", "-no-user-config", "-no-reboot"]
    command += ["-display", "none", "-serial", f"file:{console}", "-serial", f"file:{output}"]
    command += ["-kernel", str(kernel / "vmlinuz"), "-initrd", str(initramfs)]
    # A busy host delivers timer interrupts too late for the kernel's check of its timer.
    boot_line = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off"
    command += ["-append", f"{boot_line} ROLE={name} N={number}"]
    for network in ("roce", "plain"):
        server = "on" if number == 0 else "off"
        address = f"addr.type=unix,addr.path={work / network}.socket"
        command += ["-netdev", f"stream,id={network},server={server},{address}"]
        mac = f"52:54:00:00:{'01' if network == 'roce' else '02'}:0{number + 1}"
        # Without a link status the guest does not wait for the other machine to be plugged in.
        command += ["-device", f"virtio-net-pci,netdev={network},mac={mac},status=off,romfile="]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=console.open("ab")
    )
    return Machine(name, process, output, console)


def wait_for_sockets(machine: Machine, work: Path, timeout_s: float) -> bool:
    """True once the networks of machine 0 can be joined."""
    give_up = time.monotonic() + timeout_s
    while machine.runs_on(POLL_S) and time.monotonic() < give_up:
        if all((work / f"{network}.socket").exists() for network in ("roce", "plain")):
            return True
    return False

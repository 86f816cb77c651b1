"""A Debian system that boots in QEMU with its own kernel, initramfs and systemd.

    with Machine(root, directory) as machine:
        machine.output("systemctl start fusecrypt@private")
        machine.terminal.expect("login: ")

It has one processor, emulated: a boot takes a minute. Nothing of it is kept, but a reboot finds what was
there before. A Line is one of its serial lines, from the outside; the second one is the agent's, on the
third one people log in.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kernel.errors import HarnessError
from tests.kernel.guest import ACCELERATOR, Result
from tests.package.roots import Root, call

BOOT_TIMEOUT = 900.0
_SIZE = "3G"  # sparse
_MEMORY = "1024"  # MiB
_AGENT = """
[Unit]
Description=Takes the scripts of tests
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/agent.py
Restart=always
[Install]
WantedBy=multi-user.target
"""
_SLOW = """
[Manager]
DefaultTimeoutStartSec=15min
DefaultTimeoutStopSec=15min
DefaultDeviceTimeoutSec=15min
"""
"""An emulated machine on a loaded one: nothing is given up because it is late."""
_PATIENT_LOGIN = "s/^LOGIN_TIMEOUT.*/LOGIN_TIMEOUT 900/"
"""The same for login(1), which has a minute for all of PAM."""
_NOT_NEEDED = """
apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer getty@tty1.service
""".split()


class Line:
    """One of the machine's serial lines, from the outside."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + 10
        while self._socket.connect_ex(str(path)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._seen = ""

    def send(self, text: str) -> None:
        self._socket.sendall(text.encode())

    def expect(self, pattern: str, timeout: float = 600.0) -> re.Match[str]:
        """Wait until something is seen; what comes after it is left for the next one. Raises HarnessError."""
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self._seen, re.MULTILINE)):
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([self._socket], [], [], wait)[0]:
                raise HarnessError(f"no {pattern!r} in {timeout:.0f} s, but:\n{self._seen[-3000:]}")
            data = self._socket.recv(65536)
            if not data:
                raise HarnessError(f"the machine died; it last said:\n{self._seen[-3000:]}")
            self._seen += data.decode(errors="replace")
        self._seen = self._seen[match.end() :]
        return match

    def close(self) -> None:
        self._socket.close()


class Machine:
    """A root that runs. Leaving the context ends it, as pulling the plug does."""

    def __init__(self, root: Root, directory: Path) -> None:
        self._root = root
        self._directory = directory

    def __enter__(self) -> Self:
        self._prepare()
        with (self._directory / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._agent = Line(self._directory / "agent")
            self.terminal = Line(self._directory / "terminal")
            self._wait_for_boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for line in (getattr(self, name, None) for name in ("_agent", "terminal")):
            if line is not None:
                line.close()

    def run(self, script: str, timeout: float = 900.0) -> Result:
        """Run a shell script as root, without a terminal. HarnessError if it does not end in time."""
        self._agent.send(json.dumps(script) + "\n")
        status, stdout, stderr = json.loads(self._agent.expect(r"^(.*)\n", timeout)[1])
        return Result(stdout, stderr, status)

    def output(self, script: str) -> str:
        """The standard output of a script that succeeds, without the last line's end."""
        return self.run(script).checked().stdout.rstrip("\n")

    def reboot(self) -> None:
        """As people do it; what was asked to end gets the time to."""
        self._agent.send(json.dumps("systemctl reboot") + "\n")
        self._wait_for_boot()

    def _wait_for_boot(self) -> None:
        try:
            self._agent.expect(r'^"ready"\n', BOOT_TIMEOUT)
        except HarnessError as error:
            said = b"".join((self._directory / name).read_bytes()[-3000:] for name in ("qemu.log", "console"))
            raise HarnessError(f"{error}\n{said.decode(errors='replace')}") from None
        self.run("systemctl is-system-running --wait", BOOT_TIMEOUT)

    def _prepare(self) -> None:
        """Put our agent into the root, and the root onto a disk."""
        root = self._root
        shutil.copy(Path(__file__).with_name("agent.py"), root.path / "usr/local/lib/agent.py")
        root.put("etc/systemd/system/agent.service", _AGENT)
        root.put("etc/systemd/system.conf.d/slow.conf", _SLOW)
        root.put("etc/hostname", "machine\n")
        root.put("etc/machine-id", f"{uuid.uuid4().hex}\n")
        (root.path / "var/log/journal").mkdir(exist_ok=True)
        root.run("sed", "-i", _PATIENT_LOGIN, "/etc/login.defs")
        root.run("systemctl", "enable", "agent.service", "serial-getty@ttyS2.service")
        root.run("systemctl", "mask", *_NOT_NEEDED)
        options = ["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0"]
        call("mke2fs", *options, "-d", root.path, self._directory / "disk", _SIZE)

    def _command(self) -> list[str]:
        (kernel,) = (self._root.path / "boot").glob("vmlinuz-*")
        (initramfs,) = (self._root.path / "boot").glob("initrd.img-*")
        accelerator = os.environ.get(ACCELERATOR, "tcg")
        command = [
            "nice",
            "qemu-system-x86_64",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-M",
            "pc",
        ]
        command += ["-accel", accelerator, "-cpu", "max", "-smp", "1", "-m", _MEMORY]
        command += ["-kernel", str(kernel), "-initrd", str(initramfs)]
        command += ["-append", "root=/dev/vda rw console=ttyS0 mitigations=off random.trust_cpu=on"]
        command += ["-drive", f"file={self._directory / 'disk'},if=virtio,format=raw,cache=unsafe"]
        command += ["-serial", f"file:{self._directory / 'console'}"]
        for name in ("agent", "terminal"):
            path = self._directory / name
            command += [
                "-chardev",
                f"socket,id={name},path={path},server=on,wait=off",
                "-serial",
                f"chardev:{name}",
            ]
        return command

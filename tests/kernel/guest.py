"""A virtual machine with Debian's kernel or another, which runs scripts for the tests.

    with Guest(cache) as guest:
        (guest.share / "lower.tar").write_bytes(...)
        result = guest.run("import guest_lib ...", timeout=60)

It boots once (about ten seconds, since it is emulated) and takes any number of scripts. In the guest,
/share is guest.share (virtio-9p), /scratch an ext4 disk with xattrs and ACLs and /mnt is free; every
script finds the last two empty. A script is Python with guest_lib and manifest at hand, or starts
with a #! line.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.kernel import initramfs
from tests.kernel.cache import default_cache
from tests.kernel.errors import HarnessError

ACCELERATOR = "FUSECRYPT_TEST_ACCEL"  # environment: what follows QEMU's -accel; default tcg, emulation
BOOT_TIMEOUT = 180.0
MEMORY = "1024"  # MiB
_HERE = Path(__file__).parent
_GUEST_FILES = (_HERE / "agent.py", _HERE / "guest_lib.py", _HERE / "plan.py", _HERE.parent / "manifest.py")


@dataclass(frozen=True)
class Result:
    """What a script printed, and its exit status."""

    stdout: str
    stderr: str
    status: int

    def checked(self) -> Result:
        """This result; HarnessError with the output if the status is not 0."""
        if self.status:
            raise HarnessError(f"the script ended with {self.status}:\n{self.stdout}{self.stderr}")
        return self


class Guest:
    """One virtual machine. It boots in __enter__, and again in run() if a script brought it down.

    `kernel` is an image that needs no modules, by default Debian's with the modules of initramfs.py;
    `tpm` the control socket of a swtpm that nobody else talks to meanwhile.
    """

    def __init__(
        self, cache: Path | None = None, *, kernel: Path | None = None, tpm: Path | None = None
    ) -> None:
        self._cache = cache or default_cache()
        self._kernel = kernel
        self._tpm = tpm
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs = 0
        self._received = b""

    def __enter__(self) -> Guest:
        self._directory = Path(tempfile.mkdtemp(prefix="fusecrypt-guest-"))
        self.share = self._directory / "share"
        self._control = self._directory / "ctl"
        self.share.mkdir()
        self._control.mkdir()
        for path in _GUEST_FILES:
            shutil.copy(path, self._control)
        try:
            self._boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        shutil.rmtree(self._directory)

    def run(self, script: str, timeout: float = 120.0) -> Result:
        """Run a script in the guest. HarnessError if it does not end in time or the guest dies."""
        if self._process is None:
            self._boot()
        self._jobs += 1
        base = self._control / str(self._jobs)
        base.with_suffix(".script").write_text(script)
        self._send(b"%d\n" % self._jobs)
        answer = self._receive(rb"^%d (\d+)\n" % self._jobs, timeout)
        texts = [base.with_suffix(name).read_text(errors="replace") for name in (".stdout", ".stderr")]
        return Result(texts[0], texts[1], int(answer.group(1)))

    def _boot(self) -> None:
        self._received = b""
        with (self._directory / "qemu.log").open("wb") as log:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(self._command(), stdin=pipe, stdout=pipe, stderr=log)
        self._receive(rb"^ready\n", BOOT_TIMEOUT)

    def _command(self) -> list[str]:
        qemu = shutil.which("qemu-system-x86_64")
        if not qemu:
            raise HarnessError("qemu-system-x86_64 is missing: run script/bootstrap")
        files = initramfs.boot_files(self._cache)
        accelerator = os.environ.get(ACCELERATOR, "tcg")
        # Files that root makes in the guest are root's here too, if the tests run as root.
        model = "passthrough" if os.geteuid() == 0 else "none"
        command = [qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "pc"]
        command += ["-accel", accelerator, "-cpu", "max", "-smp", "1", "-m", MEMORY]
        command += ["-kernel", str(self._kernel or files.kernel), "-initrd", str(files.initramfs)]
        command += ["-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off random.trust_cpu=on"]
        command += ["-serial", f"file:{self._directory / 'console'}", "-serial", "stdio"]
        command += ["-drive", f"file={files.disk},if=virtio,format=raw,snapshot=on"]
        for tag, path in (("ctl", self._control), ("share", self.share)):
            options = f"local,path={path},mount_tag={tag},security_model={model},multidevs=remap"
            command += ["-virtfs", options]
        if self._tpm:
            command += ["-chardev", f"socket,id=swtpm,path={self._tpm}"]
            command += ["-tpmdev", "emulator,id=tpm,chardev=swtpm", "-device", "tpm-tis,tpmdev=tpm"]
        return command

    def _send(self, line: bytes) -> None:
        assert self._process
        assert self._process.stdin
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("the guest died") from None

    def _receive(self, pattern: bytes, timeout: float) -> re.Match[bytes]:
        """Wait for a line from the agent."""
        assert self._process
        assert self._process.stdout
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self._received, re.MULTILINE)):
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([fd], [], [], wait)[0]:
                raise self._failure(f"the guest gave no answer in {timeout:.0f} s")
            data = os.read(fd, 4096)
            if not data:
                raise self._failure("the guest died")
            self._received += data
        return match

    def _failure(self, message: str) -> HarnessError:
        """Stop the guest and tell what it last said."""
        self._stop()
        logs = (self._directory / "qemu.log", self._directory / "console")
        said = b"".join(path.read_bytes()[-3000:] for path in logs if path.exists())
        return HarnessError(f"{message}\n{said.decode(errors='replace')}")

    def _stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

"""Runs in the guest: takes jobs from the host over a serial line, one after the other.

A line with a job's number comes in; /ctl/NUMBER.script is run with its output in NUMBER.stdout and
NUMBER.stderr; the number and the exit status go back. Between jobs, mounts below /mnt, keys and
the scratch disk are cleared and the caches dropped, so that a job sees a fresh machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
import tty
from pathlib import Path

LINE = "/dev/ttyS1"
CONTROL = "/ctl"


def serve() -> None:
    """Answer jobs until the host hangs up."""
    with open(LINE, "r+b", buffering=0) as line:
        tty.setraw(line.fileno())
        clean()
        line.write(b"ready\n")
        received = b""
        while data := line.read(64):
            received += data
            *numbers, received = received.split(b"\n")
            for number in numbers:
                status = run(number.decode())
                clean()
                line.write(number + b" %d\n" % status)


def run(number: str) -> int:
    """Run one job in a child process; its exit status, or 128 and the signal that ended it."""
    child = os.fork()
    if child == 0:
        _redirect(number)
        status = 1
        try:
            status = _execute(Path(CONTROL, number + ".script"))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


def _redirect(number: str) -> None:
    for stream, name in ((1, ".stdout"), (2, ".stderr")):
        fd = os.open(CONTROL + "/" + number + name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(fd, stream)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)


def _execute(script: Path) -> int:
    """Python in this very process, which spares an interpreter's start; anything else by its first line."""
    text = script.read_text()
    if text.startswith("#!"):
        return subprocess.run([*text.split("\n", 1)[0][2:].split(), str(script)]).returncode
    try:
        exec(compile(text, "script", "exec"), {"__name__": "__main__"})
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def clean() -> None:
    """Undo what a job left behind."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    for mount in reversed([line.split()[1] for line in mounts]):
        if mount.startswith(("/mnt", "/scratch/")):
            subprocess.run(["umount", "-l", mount])
    subprocess.run(["keyctl", "clear", "@u"], stderr=subprocess.DEVNULL)
    for directory in ("/scratch", "/mnt", "/tmp"):
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


if __name__ == "__main__":
    serve()

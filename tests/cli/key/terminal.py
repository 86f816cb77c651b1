"""Talking to a command on a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

PATIENCE = 60.0


def talk(
    command: Sequence[str], answers: Sequence[tuple[str, str]], *, cwd: Path, env: dict[str, str]
) -> tuple[int, str]:
    """Run a command and answer its prompts in turn; its status, and all that the terminal showed."""
    ours, theirs = pty.openpty()
    launcher = ["setsid", "--ctty", "--wait", *command]
    with subprocess.Popen(launcher, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=env) as process:
        os.close(theirs)
        try:
            shown = seen = ""
            for prompt, answer in answers:
                while prompt not in seen:
                    more = _read(ours, shown)
                    assert more, f"no {prompt!r} in {shown!r}"
                    shown += more
                    seen += more
                seen = seen.partition(prompt)[2]
                # The prompt is written just before echo is turned off; what comes too early would be lost.
                time.sleep(0.1)
                os.write(ours, answer.encode() + b"\n")
            while more := _read(ours, shown):
                shown += more
            return process.wait(PATIENCE), shown
        finally:
            os.close(ours)  # before the wait for the process: one that still asks is hung up on


def _read(fd: int, shown: str) -> str:
    """What the terminal shows next; empty at its end."""
    assert select.select([fd], [], [], PATIENCE)[0], f"nothing more after {shown!r}"
    try:
        return os.read(fd, 4096).decode(errors="replace")
    except OSError:
        return ""

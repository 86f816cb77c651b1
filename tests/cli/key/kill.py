"""Run ``fusecrypt key …`` again and again, killed one system call later each time. Run by test_kill.py.

Arguments: a directory whose copy each run starts from, a directory for the copies (1, 2, …), the words of
the command. Each run is a fork that SIGKILLs itself at its n-th call that changes the disk: half of them
before the call, half after it, a write in its middle. It ends with the first run that is not killed, whose
number and status it prints. What a run prints is in the file "printed" of its directory.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusecrypt.cli.main import main

CALLS = ("open", "write", "writev", "fsync", "replace", "unlink", "rename", "mkdir", "fchown")


def arm(step: int) -> None:
    """Let this process be killed at call number ``step``, counted in halves: before, after."""
    last, after = divmod(step + 1, 2)
    count = 0

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if call is open_ and not args[1] & os.O_CREAT:
                return call(*args, **kwargs)
            count += 1
            if count == last and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                if count == last and call is write:
                    args = (args[0], args[1][: len(args[1]) // 2])
                return call(*args, **kwargs)
            finally:
                if count == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    write, open_ = os.write, os.open
    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def run(step: int, directory: Path, words: list[str]) -> int:
    """One run in a fork; what waitpid says."""
    child = os.fork()
    if child == 0:
        os.chdir(directory)
        os.dup2(os.open("printed", os.O_WRONLY | os.O_CREAT), 1)
        sys.argv = ["fusecrypt", "key", *words]
        arm(step)
        main()
    return os.waitpid(child, 0)[1]


def every_step(source: Path, copies: Path, words: list[str]) -> None:
    """All runs, until one ends by itself."""
    step = 0
    while True:
        step += 1
        directory = copies / str(step)
        shutil.copytree(source, directory, symlinks=True)
        status = run(step, directory, words)
        if not os.WIFSIGNALED(status):
            print(step, os.waitstatus_to_exitcode(status))
            return
        assert os.WTERMSIG(status) == signal.SIGKILL


if __name__ == "__main__":
    every_step(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])

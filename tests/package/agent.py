"""Runs in the machine, as root: a shell script comes in over a serial line, its output and status go back.

Both are lines of JSON. A line that says "ready" comes first, after each boot.
"""

from __future__ import annotations

import json
import os
import subprocess
import tty

LINE = "/dev/ttyS1"


def serve() -> None:
    """Answer until the machine goes down."""
    fd = os.open(LINE, os.O_RDWR | os.O_NOCTTY)  # no terminal of ours: what we run must have none
    tty.setraw(fd)
    _send(fd, "ready")
    received = b""
    while data := os.read(fd, 4096):
        received += data
        *requests, received = received.split(b"\n")
        for request in requests:
            _send(fd, _run(json.loads(request)))


def _run(script: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    return done.returncode, done.stdout, done.stderr


def _send(fd: int, message: object) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    serve()

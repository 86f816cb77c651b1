"""A connection to a TPM that records what passes, and can answer in its place."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from tpm2_pytss import PyTCTI  # type: ignore[import-untyped] # it has none

Tamper = Callable[[bytes, bytes], bytes]
"""From a command and its answer to what the caller gets instead."""


def refuse(code: int, command: int = 0, times: int = 1 << 30) -> Tamper:
    """Answer a command (any, if 0) with a code, so many times."""
    left = times

    def tamper(sent: bytes, answer: bytes) -> bytes:
        nonlocal left
        if left == 0 or (command and int.from_bytes(sent[6:10], "big") != command):
            return answer
        left -= 1
        return b"\x80\x01" + (10).to_bytes(4, "big") + code.to_bytes(4, "big")

    return tamper


class Recorder(PyTCTI):  # type: ignore[misc] # the base has no types
    """Speaks to swtpm's socket. ``traffic`` is all that passed on the bus, both ways."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.traffic: list[bytes] = []
        self.tamper: Tamper = lambda _, answer: answer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))

    def do_transmit(self, command: bytes) -> None:
        """Send a command."""
        self._command = bytes(command)
        self.traffic.append(self._command)
        self._socket.sendall(self._command)

    def do_receive(self, timeout: int) -> bytes:
        """Receive an answer: ten octets of header, whose third to sixth are the size of all."""
        answer = self._octets(10)
        answer += self._octets(int.from_bytes(answer[2:6], "big") - 10)
        self.traffic.append(answer)
        return self.tamper(self._command, answer)

    def close_socket(self) -> None:
        """Hang up."""
        self._socket.close()

    def _octets(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            more = self._socket.recv(count - len(received))
            assert more, "swtpm hung up"
            received += more
        return received

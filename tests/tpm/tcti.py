"""A connection to a TPM that records what passes, and can answer in its place."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from tpm2_pytss import PyTCTI  # type: ignore[import-untyped] # it has none

Answer = bytes


def refuse(code: int, command: int = 0, times: int = 1 << 30) -> Callable[[bytes], Answer | None]:
    """Answer a command (any, if 0) with a code, so many times, in the TPM's place."""
    left = times

    def instead(sent: bytes) -> Answer | None:
        nonlocal left
        if left == 0 or (command and int.from_bytes(sent[6:10], "big") != command):
            return None
        left -= 1
        return b"\x80\x01" + (10).to_bytes(4, "big") + code.to_bytes(4, "big")

    return instead


class Recorder(PyTCTI):  # type: ignore[misc] # the base has no types
    """Speaks to swtpm's socket. ``traffic`` is all that passed on the bus, both ways.

    ``instead`` may answer a command that then does not reach the TPM, ``tamper`` change an answer.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.traffic: list[bytes] = []
        self.instead: Callable[[bytes], Answer | None] = lambda _: None
        self.tamper: Callable[[bytes, Answer], Answer] = lambda _, answer: answer
        self._command = b""
        self._answer: Answer | None = None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))

    def do_transmit(self, command: bytes) -> None:
        """Send a command."""
        self._command = bytes(command)
        self.traffic.append(self._command)
        self._answer = self.instead(self._command)
        if self._answer is None:
            self._socket.sendall(self._command)

    def do_receive(self, timeout: int) -> bytes:
        """Receive an answer: ten octets of header, whose third to sixth are the size of all."""
        if self._answer is not None:
            return self._answer
        answer = self._octets(10)
        answer += self._octets(int.from_bytes(answer[2:6], "big") - 10)
        self.traffic.append(answer)
        return self.tamper(self._command, answer)

    def aside(self, command: bytes) -> Answer:
        """Send a command between two others, as another program would."""
        self._socket.sendall(command)
        head = self._octets(10)
        return head + self._octets(int.from_bytes(head[2:6], "big") - 10)

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

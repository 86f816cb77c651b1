"""Agree with the kernel on more than pyfuse3 can ask for.

pyfuse3 leaves the first exchange, FUSE_INIT, to libfuse and shows few of its flags. Three things depend on
flags it does not know: that a file with a default ACL above it ignores the umask (DONT_MASK), that set-id
bits are ours to clear (HANDLE_KILLPRIV_V2), and with it that the kernel need not ask for
security.capability before every single write. And one flag has to go: where direct I/O is asynchronous
(ASYNC_DIO), the kernel keeps what was read into memory while a direct write was under way, which is old. So
libfuse gets a socket in place of the device, is handed the kernel's request through it, and its answer goes
to the kernel with its flags put right; then the device takes the socket's place under the same descriptor.
"""

from __future__ import annotations

import os
import socket
import struct

_REQUEST_SIZE = 1 << 20  # the kernel refuses reads that could not hold its largest request
_HEADER = struct.Struct("=IiQ")  # length, error, unique
_FLAGS_AT = _HEADER.size + 12  # major, minor, max_readahead come first
_FLAGS = struct.Struct("=I")
_REQUEST_FLAGS_AT = 40 + 12

DONT_MASK = 1 << 6
HANDLE_KILLPRIV_V2 = 1 << 28
_WANTED = DONT_MASK | HANDLE_KILLPRIV_V2
ASYNC_DIO = 1 << 15


class Negotiation:
    """``session_fd`` is for libfuse: a socket first, the device after :meth:`finish`."""

    def __init__(self, device: int) -> None:
        """Take over ``device``, fresh from its mount. Raises OSError."""
        self._device = device
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.session_fd = theirs.detach()
        request = os.read(device, _REQUEST_SIZE)
        (self._offered,) = _FLAGS.unpack_from(request, _REQUEST_FLAGS_AT)
        self._ours.send(request)

    def finish(self) -> None:
        """Once libfuse has answered: pass the answer on and put the device in its place."""
        answer = bytearray(self._ours.recv(_REQUEST_SIZE))
        if len(answer) >= _FLAGS_AT + _FLAGS.size:
            (flags,) = _FLAGS.unpack_from(answer, _FLAGS_AT)
            _FLAGS.pack_into(answer, _FLAGS_AT, flags & ~ASYNC_DIO | self._offered & _WANTED)
        os.write(self._device, answer)
        os.set_blocking(self._device, False)
        os.dup2(self._device, self.session_fd, inheritable=False)
        os.close(self._device)
        self._ours.close()

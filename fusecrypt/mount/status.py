"""What a mount tells about itself, as its owner or root ask for it.

Its daemon listens on a socket in the abstract namespace, named by the mount's device number: no file is left
behind, however it ends. Each side looks at who the other is. The daemon answers its own user and root; who
asks believes nobody but the mount's owner and root.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from typing import Any

from fusecrypt.errors import TreeError
from fusecrypt.mount.mounts import MountPoint
from fusecrypt.tree.policy import Policy

_PATIENCE = 3.0
"""Seconds in which a daemon that is well has answered."""
_MAX_ANSWER = 1 << 20
_MAX_TIME = 1 << 37
"""Seconds since 1970 that a calendar still has."""
_COUNTS = ("key_bytes", "pid", "since", "requests", "requests_by_lane", "inodes")
_WORDS = ("cipher", "version")
_PERHAPS_WORDS = ("key_source", "fnek_signature", "fn_cipher")
_FLAGS = ("xattr_metadata", "passthrough", "encrypted_view", "read_only", "shared", "memory_locked")
_CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid
PEER = (socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
"""The socket option that tells who is on the other side."""


def address(device: str) -> str:
    """The name of the socket of the mount with that device number."""
    return f"\0fusecrypt/{device}"


def user_of(peer: bytes) -> int:
    """The user in the value of that option: who connected, or who began to listen."""
    return int(_CREDENTIALS.unpack(peer)[1])


def describe(policy: Policy) -> dict[str, Any]:
    """How a tree is mounted, for JSON."""
    names = policy.names
    return {
        "signatures": [token.sig for token in policy.content],
        "cipher": policy.cipher.spec.name,
        "key_bytes": policy.cipher.key_bytes,
        "fnek_signature": names.token.sig if names else None,
        "fn_cipher": names.cipher.spec.name if names else None,
        "fn_key_bytes": names.cipher.key_bytes if names else None,
        "xattr_metadata": policy.xattr_metadata,
        "passthrough": policy.passthrough,
        "encrypted_view": policy.encrypted_view,
        "read_only": policy.read_only,
        "shared": policy.shared,
    }


def ask(mount: MountPoint) -> dict[str, Any]:
    """The answer of a mount's daemon. Raises TreeError that says why there is none."""
    try:
        data = _receive(mount)
    except TimeoutError:
        raise TreeError("its daemon does not answer", "see the journal; kill it if that lasts") from None
    except ConnectionRefusedError:
        raise _without_socket(mount) from None
    if not data:
        raise TreeError("it belongs to another user", "ask as its owner or as root")
    try:
        answer: dict[str, Any] = json.loads(data)
        if _makes_sense(answer):
            return answer
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise TreeError("its daemon answers nonsense", "it is none of this version of fusecrypt")


def _makes_sense(answer: dict[str, Any]) -> bool:
    """Whether an answer is what :class:`fusecrypt.mount.reporter.Reporter` makes. Raises KeyError, TypeError.

    Whoever may mount can call it a fusecrypt mount, and answer anything.
    """
    failures, names = answer["failures"], answer["fn_cipher"] is not None
    return (
        all(type(answer[name]) is int and answer[name] >= 0 for name in _COUNTS)
        and answer["since"] < _MAX_TIME
        and all(type(answer[name]) is str for name in _WORDS)
        and all(answer[name] is None or type(answer[name]) is str for name in _PERHAPS_WORDS)
        and all(type(answer[name]) is bool for name in _FLAGS)
        and type(answer["fn_key_bytes"]) is (int if names else type(None))
        and type(answer["signatures"]) is list
        and all(type(each) is str for each in answer["signatures"])
        and type(failures) is dict
        and all(type(count) is int for count in failures.values())
    )


def _receive(mount: MountPoint) -> bytes:
    deadline = time.monotonic() + _PATIENCE
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(address(mount.device))
        if user_of(connection.getsockopt(*PEER)) not in (0, mount.user):
            raise TreeError("its place is taken by a process of another user", "see `ss -xlp`")
        received = bytearray()
        while len(received) < _MAX_ANSWER:
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            connection.settimeout(left)
            if not (part := connection.recv(_MAX_ANSWER - len(received))):
                break
            received += part
        return bytes(received)


def _without_socket(mount: MountPoint) -> TreeError:
    if _is_connected(mount.path):
        return TreeError("its daemon cannot be asked from here", "it may run in another network namespace")
    return TreeError("its daemon has ended", f"unmount it: `fusecrypt umount {mount.path}`")


def _is_connected(path: str) -> bool:
    """Whether the mount's daemon lives. One that hangs must not take us along."""
    ended = threading.Event()

    def look() -> None:
        try:
            os.statvfs(path)
        except PermissionError:
            pass
        except OSError:
            ended.set()

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(_PATIENCE)
    return not ended.is_set()

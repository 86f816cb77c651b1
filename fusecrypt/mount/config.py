"""What the daemon is told: everything but the keys as JSON, the keys in native memory behind a descriptor."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass

from fusecrypt.errors import FusecryptError, TreeError, UnsupportedSystemError
from fusecrypt.keys.token import KEY_BYTES, AuthToken
from fusecrypt.native import export_memory, import_memory
from fusecrypt.ondisk.ciphers import choose
from fusecrypt.tree.policy import NamePolicy, Policy

_MAX_MESSAGE = 1 << 17
"""Octets of the JSON: two paths, and far more keys than a key-slot file holds."""

READY = b"\0"
"""What the daemon writes to the descriptor it was given for that when the mount answers."""
_SEE = "`fusecrypt doctor` looks at this system; with --foreground --verbose more is said"


def failure(error: Exception) -> bytes:
    """What it writes there instead, if there will be no mount."""
    if not isinstance(error, FusecryptError):
        error = TreeError(f"cannot mount: {error}", _SEE)
    return json.dumps([error.exit_status, str(error), error.hint]).encode()


def error_from(answer: bytes) -> FusecryptError:
    """The error in such an answer; it is empty if the daemon died."""
    if not answer:
        return TreeError("cannot mount: the daemon died", _SEE)
    status, message, hint = json.loads(answer)
    lacking = status == UnsupportedSystemError.exit_status
    return (UnsupportedSystemError if lacking else TreeError)(message, hint)


@dataclass(frozen=True)
class MountConfig:
    """One mount. ``options`` are for FUSE (``ro``, ``allow_other`` …); ``lower`` and ``key_source`` are for
    display. With ``idle`` it ends after so many seconds without a request, if nothing is in use."""

    lower: str
    mountpoint: str
    policy: Policy
    options: tuple[str, ...] = ()
    foreground: bool = False
    verbose: bool = False
    key_source: str = ""
    idle: float | None = None


def send(connection: socket.socket, config: MountConfig, root_fd: int, ready_fd: int) -> None:
    """Give the daemon all it needs, in one message: the JSON, and descriptors of the key memory, of the
    lower root, and of where to say that the mount answers. The caller keeps those it gave."""
    policy = config.policy
    tokens = list({token.signature: token for token in policy.tokens}.values())
    position = {token.signature: i for i, token in enumerate(tokens)}
    text = json.dumps(
        {
            "lower": config.lower,
            "mountpoint": config.mountpoint,
            "options": config.options,
            "foreground": config.foreground,
            "verbose": config.verbose,
            "key_source": config.key_source,
            "idle": config.idle,
            "tokens": [{"signature": t.sig, "salt": t.salt.hex()} for t in tokens],
            "content": [position[t.signature] for t in policy.content],
            "others": [position[t.signature] for t in policy.others],
            "cipher": [policy.cipher.spec.name, policy.cipher.key_bytes],
            "names": [
                [position[each.token.signature], each.cipher.spec.name, each.cipher.key_bytes]
                for each in ((policy.names, *policy.other_names) if policy.names else ())
            ],
            "xattr_metadata": policy.xattr_metadata,
            "passthrough": policy.passthrough,
            "encrypted_view": policy.encrypted_view,
            "read_only": policy.read_only,
            "shared": policy.shared,
            "noatime": policy.noatime,
        }
    )
    key_fd = export_memory([token.key for token in tokens])
    try:
        socket.send_fds(connection, [text.encode()], [key_fd, root_fd, ready_fd])
    finally:
        os.close(key_fd)


def receive(connection: socket.socket) -> tuple[MountConfig, int, int] | None:
    """The daemon's side: the mount, and descriptors of the lower root and for the answer.

    Returns None if there will be no mount.
    """
    text, fds, _, _ = socket.recv_fds(connection, _MAX_MESSAGE, 3)
    if not text:
        return None
    key_fd, root_fd, ready_fd = fds
    for fd in fds:
        os.set_inheritable(fd, False)  # fusermount3 has no use for them
    data = json.loads(text)
    with import_memory(key_fd, KEY_BYTES * len(data["tokens"])) as keys:
        os.close(key_fd)
        tokens = [
            AuthToken(
                bytes.fromhex(t["signature"]),
                keys.part(KEY_BYTES * i, KEY_BYTES * (i + 1)),
                bytes.fromhex(t["salt"]),
            )
            for i, t in enumerate(data["tokens"])
        ]
    names = [NamePolicy(tokens[i], choose(*cipher)) for i, *cipher in data["names"]]
    policy = Policy(
        content=tuple(tokens[i] for i in data["content"]),
        cipher=choose(*data["cipher"]),
        names=names[0] if names else None,
        other_names=tuple(names[1:]),
        others=tuple(tokens[i] for i in data["others"]),
        xattr_metadata=data["xattr_metadata"],
        passthrough=data["passthrough"],
        encrypted_view=data["encrypted_view"],
        read_only=data["read_only"],
        shared=data["shared"],
        noatime=data["noatime"],
    )
    config = MountConfig(
        data["lower"],
        data["mountpoint"],
        policy,
        tuple(data["options"]),
        data["foreground"],
        data["verbose"],
        data["key_source"],
        data["idle"],
    )
    return config, root_fd, ready_fd

"""What the daemon is told: everything but the keys as JSON, the keys in native memory behind a descriptor."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from fusecrypt.keys.token import KEY_BYTES, AuthToken
from fusecrypt.native import export_memory, import_memory
from fusecrypt.ondisk.ciphers import choose
from fusecrypt.tree.policy import NamePolicy, Policy

READY = b"\0"
"""What the daemon writes to the descriptor it was given for that when the mount answers."""


@dataclass(frozen=True)
class MountConfig:
    """One mount. ``options`` are for FUSE (``ro``, ``allow_other`` …); ``lower`` is for display."""

    lower: str
    mountpoint: str
    policy: Policy
    options: tuple[str, ...] = ()
    foreground: bool = False
    verbose: bool = False


def send(config: MountConfig, root_fd: int) -> tuple[int, int]:
    """Descriptors for the daemon, both to be inherited: the JSON (read to its end), and the key memory."""
    policy = config.policy
    tokens = _tokens(policy)
    position = {token.signature: i for i, token in enumerate(tokens)}
    text = json.dumps(
        {
            "lower": config.lower,
            "mountpoint": config.mountpoint,
            "root_fd": root_fd,
            "options": config.options,
            "foreground": config.foreground,
            "verbose": config.verbose,
            "tokens": [{"signature": t.sig, "salt": t.salt.hex()} for t in tokens],
            "content": [position[t.signature] for t in policy.content],
            "others": [position[t.signature] for t in policy.others],
            "cipher": [policy.cipher.spec.name, policy.cipher.key_bytes],
            "names": policy.names
            and [
                position[policy.names.token.signature],
                policy.names.cipher.spec.name,
                policy.names.cipher.key_bytes,
            ],
            "xattr_metadata": policy.xattr_metadata,
            "passthrough": policy.passthrough,
            "encrypted_view": policy.encrypted_view,
            "read_only": policy.read_only,
        }
    )
    config_fd = os.memfd_create("fusecrypt-config", 0)
    with os.fdopen(os.dup(config_fd), "w") as file:
        file.write(text)
    key_fd = export_memory([token.key for token in tokens])
    os.set_inheritable(config_fd, True)
    os.set_inheritable(key_fd, True)
    return config_fd, key_fd


def receive(config_fd: int, key_fd: int) -> tuple[MountConfig, int]:
    """The daemon's side: the mount and the descriptor of the lower root. Both descriptors are closed."""
    with os.fdopen(config_fd) as file:
        file.seek(0)
        data = json.load(file)
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
    names = data["names"]
    policy = Policy(
        content=tuple(tokens[i] for i in data["content"]),
        cipher=choose(*data["cipher"]),
        names=NamePolicy(tokens[names[0]], choose(*names[1:])) if names else None,
        others=tuple(tokens[i] for i in data["others"]),
        xattr_metadata=data["xattr_metadata"],
        passthrough=data["passthrough"],
        encrypted_view=data["encrypted_view"],
        read_only=data["read_only"],
    )
    config = MountConfig(
        data["lower"],
        data["mountpoint"],
        policy,
        tuple(data["options"]),
        data["foreground"],
        data["verbose"],
    )
    return config, data["root_fd"]


def _tokens(policy: Policy) -> list[AuthToken]:
    tokens = {t.signature: t for t in (*policy.content, *policy.others)}
    if policy.names is not None:
        tokens.setdefault(policy.names.token.signature, policy.names.token)
    return list(tokens.values())

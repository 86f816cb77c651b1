"""Golden trees and passphrases on their way into the guest."""

from __future__ import annotations

from tests import golden, manifest
from tests.kernel import tokens
from tests.kernel.guest import Guest


def add_key(passphrase: bytes, salt: bytes = tokens.DEFAULT_SALT) -> tuple[str, str]:
    """A line of guest code that adds a passphrase's key, derived here where it is fast; its signature."""
    key, signature = tokens.passphrase_key(passphrase, salt)
    token = tokens.auth_token(key, signature, salt)
    return f"guest_lib.add_key({token.hex()!r}, {signature!r})\n", signature


def add_keys(tree: golden.GoldenTree) -> str:
    """Guest code that adds all keys of a tree that passphrases open."""
    lines = []
    for key in [*tree.keys, *([tree.fnek] if tree.fnek else [])]:
        assert key.passphrase is not None
        line, signature = add_key(key.passphrase, key.salt)
        assert signature == key.signature
        lines.append(line)
    return "".join(lines)


def kernel_manifest(guest: Guest, lower: str, options: str, keys: str) -> list[manifest.Entry]:
    """What the kernel shows of the archive `lower` in the guest's share. `keys` is guest code."""
    output = guest.share / (lower + ".manifest.json")
    script = f"""
import guest_lib, manifest
{keys}
guest_lib.unpack({"/share/" + lower!r}, "/scratch/lower")
manifest.dump(guest_lib.show("/scratch/lower", {options!r}), {"/share/" + output.name!r})
"""
    guest.run(script).checked()
    return manifest.load(output)


def without_sockets(entries: list[manifest.Entry]) -> list[manifest.Entry]:
    """Leave out sockets, which tar cannot carry to the guest."""
    return [entry for entry in entries if entry["type"] != "socket"]

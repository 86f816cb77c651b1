"""The auth token as the kernel's keyrings hold it: the C structure of eCryptfs, 740 octets.

Key type ``user``, described by the signature as 16 hex digits. Integers are in host byte order; the
layout is the same on 32-bit and 64-bit machines. The kernel takes the key from
``password.session_key_encryption_key`` and nothing else, and does not check the payload's length.
"""

from __future__ import annotations

import re
import struct

from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.token import KEY_BYTES, AuthToken
from fusecrypt.native import Secret

SIZE = 740
"""Octets of the payload of a password token."""

_HEAD = struct.Struct("=HH")  # version, token type
_VERSION = 4
_PASSWORD = 0
_PRIVATE_KEY = 1
_SESSION_KEY = slice(20, 532)  # an encrypted session key; must stay zero, or the kernel writes it
_PARAMETERS = struct.Struct("=IIIII")  # password_bytes, hash_algo, hash_iterations, key bytes, flags
_PARAMETERS_AT = 628
_SHA512 = 10
_KEY_SET = 2
_KEY = slice(648, 712)
_SIGNATURE = slice(712, 729)  # 16 hex digits and NUL
_SALT = slice(729, 737)


def encode_payload(token: AuthToken) -> Secret:
    """The payload that ecryptfs-add-passphrase would add for this token."""
    payload = Secret(SIZE)
    view = payload.view()
    _HEAD.pack_into(view, 0, _VERSION, _PASSWORD)
    _PARAMETERS.pack_into(view, _PARAMETERS_AT, 0, _SHA512, 0, KEY_BYTES, _KEY_SET)
    view[_KEY] = token.key.view()
    view[_SIGNATURE] = token.sig.encode() + b"\0"
    view[_SALT] = token.salt
    return payload


def decode_payload(payload: Secret) -> AuthToken:
    """The token in a payload; KeyFileError for what the kernel would refuse or misread."""
    if len(payload) < SIZE:
        raise KeyFileError(f"the key has {len(payload)} octets; an eCryptfs auth token has {SIZE}")
    view = payload.view()
    version, kind = _HEAD.unpack_from(view, 0)
    if version != _VERSION:
        raise KeyFileError(f"the key is no eCryptfs auth token of version 0.4 (it says {version:#06x})")
    if kind == _PRIVATE_KEY:
        raise KeyFileError("the auth token is for a public key, which needs ecryptfsd")
    _, _, _, key_bytes, flags = _PARAMETERS.unpack_from(view, _PARAMETERS_AT)
    if kind != _PASSWORD or key_bytes != KEY_BYTES or not flags & _KEY_SET:
        raise KeyFileError("the auth token holds no passphrase key")
    if any(view[_SESSION_KEY]):
        raise KeyFileError("the auth token carries a session key of its own, which the kernel would misuse")
    sig = bytes(view[_SIGNATURE])
    if not re.fullmatch(rb"[0-9A-Fa-f]{16}\0", sig):
        raise KeyFileError("the auth token's signature is not 16 hex digits")
    return AuthToken(
        bytes.fromhex(sig[:16].decode()), payload.part(_KEY.start, _KEY.stop), bytes(view[_SALT])
    )

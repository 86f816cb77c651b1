"""What is wrong with a lower name or symlink target, and what it would be called above."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from fusecrypt.errors import FormatError, UndecodableNameError
from fusecrypt.offline.checkfile import Trouble
from fusecrypt.offline.findings import Fault, Kind
from fusecrypt.ondisk.names import PREFIX, decode_name
from fusecrypt.tree.names import EncryptedNames, NameCodec, name_codec
from fusecrypt.tree.policy import NamePolicy, Policy
from fusecrypt.tree.proof import prove_name_cipher

_LOST_AND_FOUND = b"lost+found"


class Decoded(NamedTuple):
    """``upper`` is None where it is not known; ``trouble`` None where all is well."""

    upper: bytes | None
    trouble: Trouble | None = None


class NameCheck:
    """Looks at names with the keys of a policy, or without any."""

    def __init__(self, policy: Policy, keys: bool) -> None:
        self._policy = policy
        self._keys = keys
        self._codec: NameCodec = name_codec(policy.names)

    def name(self, lower: bytes) -> Decoded:
        """A name in a directory."""
        if not self._keys:
            return Decoded(None, _without_keys(lower, Fault.NAME))
        if self._codec.plain:
            return Decoded(lower, self._plain(lower))
        upper = self._codec.decode(lower)
        if upper is not None:
            return Decoded(upper)
        if not lower.startswith(PREFIX):
            left_alone = lower == _LOST_AND_FOUND
            return Decoded(None, None if left_alone else Trouble(Fault.PLAIN_NAME, "it is not shown above"))
        return self._foreign(lower, Fault.NAME)

    def target(self, lower: bytes) -> Trouble | None:
        """What is wrong with a symlink target."""
        if not self._keys:
            return _without_keys(lower, Fault.TARGET)
        if self._codec.plain:
            return None
        try:
            if self._codec.encode_target(self._codec.decode_target(lower)) == lower:
                return None
            return Trouble(Fault.TARGET, "it reads, but its first octets are damaged")
        except UndecodableNameError:
            if not lower.startswith(PREFIX):
                return Trouble(Fault.TARGET, "it is not encrypted")
            return self._foreign(lower, Fault.TARGET).trouble

    def upper_target(self, lower: bytes) -> bytes | None:
        """What a symlink shows; None if its target does not decode."""
        with suppress(UndecodableNameError):
            return self._codec.decode_target(lower)
        return None

    def canonical(self, upper: bytes) -> bytes | None:
        """The lower name by which this upper name is looked up."""
        with suppress(OSError, FormatError):
            return self._codec.encode(upper)
        return None

    def _plain(self, lower: bytes) -> Trouble | None:
        """An encrypted name in a tree of plain names is one of another tree."""
        if not lower.startswith(PREFIX):
            return None
        with suppress(FormatError):
            return Trouble(Fault.OTHER_FNEK, f"its key is {decode_name(lower).signature.hex()}")
        return None  # somebody called it so

    def _foreign(self, lower: bytes, kind: Kind) -> Decoded:
        """A name or target in the form of an encrypted one that the tree's own codec does not take."""
        assert self._policy.names is not None
        try:
            packet = decode_name(lower)
        except FormatError as error:
            return Decoded(None, Trouble(kind, str(error)))
        own = self._policy.names.token
        token = own if packet.signature == own.signature else self._policy.token(packet.signature)
        if token is None:
            return Decoded(None, Trouble(Fault.OTHER_FNEK, f"its key is {packet.signature.hex()}"))
        cipher = prove_name_cipher(packet, token)
        if cipher is None:
            return Decoded(None, Trouble(kind, "its key is the right one, its octets are damaged"))
        upper = _decode_with(NamePolicy(token, cipher), lower)
        if token is not own:
            return Decoded(upper, Trouble(Fault.OTHER_FNEK, f"its key is {token.sig}, which is at hand"))
        if cipher != self._policy.names.cipher:
            detail = f"it is encrypted with {cipher}, others with {self._policy.names.cipher}"
        elif upper is not None:
            detail = "it is written in another form, and is not found by its name"
        else:
            detail = "its beginning is whole, the rest is damaged"
        return Decoded(upper, Trouble(kind, detail))


def _decode_with(policy: NamePolicy, lower: bytes) -> bytes | None:
    with suppress(UndecodableNameError):
        return EncryptedNames(policy).decode_target(lower)
    return None


def _without_keys(lower: bytes, kind: Kind) -> Trouble | None:
    if not lower.startswith(PREFIX):
        return None
    try:
        decode_name(lower)
    except FormatError as error:
        return Trouble(kind, str(error))
    return None

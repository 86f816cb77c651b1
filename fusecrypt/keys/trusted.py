"""TPM 2.0 key files: blobs of the kernel's ``trusted`` keys, and the wider standard they come from.

Since Linux 5.13 a blob is DER: the type (sealed data 2.23.133.10.1.5), optional context elements, the
handle of the parent, TPM2B_PUBLIC and TPM2B_PRIVATE. Before that it was TPM2B_PRIVATE followed by
TPM2B_PUBLIC, without the parent, and the sealed octets ended with one that told "migratable".
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from fusecrypt.keys import der
from fusecrypt.keys.errors import KeyFileError

MAX_TEXT = 16384
"""Octets of the longest text form that is looked at."""

OWNER = 0x40000001
"""As a parent: the storage key made from the standard template in the owner hierarchy."""

SEALED = bytes.fromhex("6781050a0105")  # 2.23.133.10.1.5
IMPORTABLE = bytes.fromhex("6781050a0104")  # 2.23.133.10.1.4
PEM_LABEL = "TSS2 PRIVATE KEY"

_TPM_1_2 = bytes.fromhex("01010000")  # the version that TPM_STORED_DATA begins with
_KEYEDHASH = 0x0008
_NULL_SCHEME = 0x0010
_NODA = 0x400
_DIGESTS = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512", 0x0012: "sm3_256"}


@dataclass(frozen=True)
class SealedPublic:
    """The public area of sealed data: name algorithm, attributes, policy digest (empty if none)."""

    name_alg: str
    attributes: int
    policy: bytes

    @property
    def free_attempts(self) -> bool:
        """Whether wrong auth values do not count (NODA)."""
        return bool(self.attributes & _NODA)

    @classmethod
    def parse(cls, public: bytes) -> SealedPublic:
        """Take a TPM2B_PUBLIC apart; KeyFileError if it is not one of sealed data."""
        size, kind, algorithm = (int.from_bytes(public[n : n + 2], "big") for n in (0, 2, 4))
        policy_size = int.from_bytes(public[10:12], "big")
        policy, tail = public[12 : 12 + policy_size], public[12 + policy_size :]
        unique_size = int.from_bytes(tail[2:4], "big")
        if (
            size != len(public) - 2
            or kind != _KEYEDHASH
            or algorithm not in _DIGESTS
            or tail[:2] != _NULL_SCHEME.to_bytes(2, "big")
            or len(tail) != 4 + unique_size
        ):
            raise KeyFileError("the TPM key's public part is not that of sealed data")
        return cls(_DIGESTS[algorithm], int.from_bytes(public[6:10], "big"), policy)


@dataclass(frozen=True)
class TPMKey:
    """A TPM key file.

    ``public`` and ``private`` include their two octets of size. ``parent`` is None for the form
    before Linux 5.13, which does not name it. ``policy`` holds (command code, command body) pairs,
    ``secret`` the encrypted seed of an importable key.
    """

    public: bytes
    private: bytes
    parent: int | None
    kind: bytes = SEALED
    empty_auth: bool | None = None
    policy: tuple[tuple[int, bytes], ...] = ()
    secret: bytes = b""
    description: str = ""
    rsa_parent: bool | None = None

    @property
    def sealed(self) -> SealedPublic:
        """What the public part says."""
        return SealedPublic.parse(self.public)

    @classmethod
    def parse(cls, data: bytes) -> TPMKey:
        """Take either form apart: DER if it is DER, else the form before Linux 5.13."""
        return cls.parse_der(data) if data[:1] == bytes([der.SEQUENCE]) else cls.parse_raw(data)

    @classmethod
    def parse_der(cls, data: bytes) -> TPMKey:
        """Take the DER form apart; KeyFileError unless it is exactly one key of sealed data."""
        outer = der.Reader(data)
        body = der.Reader(outer.element(der.SEQUENCE, "outer sequence"))
        outer.end("outer sequence")
        kind = body.element(der.OID, "type")
        if kind not in (SEALED, IMPORTABLE):
            raise KeyFileError("the TPM key is of a type other than sealed data")
        empty_auth = _boolean(body, 0, "emptyAuth")
        policy = _policy(body)
        seed = _octets(body, 2, "secret")
        if body.optional(3, "authPolicy") is not None:
            raise KeyFileError("the TPM key has an authPolicy element, which is not supported")
        text = body.optional(4, "description")
        description = "" if text is None else _description(text)
        rsa_parent = _boolean(body, 5, "rsaParent")
        parent = body.integer("parent")
        public, private = body.element(der.OCTETS, "public part"), body.element(der.OCTETS, "private part")
        body.end("sequence")
        if parent >> 32 or (seed == b"") != (kind == SEALED):
            raise KeyFileError("the TPM key's parent or secret is not valid")
        key = cls(public, private, parent, kind, empty_auth, policy, seed, description, rsa_parent)
        key._check()
        return key

    @classmethod
    def parse_raw(cls, data: bytes) -> TPMKey:
        """Take the form before Linux 5.13 apart: TPM2B_PRIVATE, then TPM2B_PUBLIC."""
        if data[:4] == _TPM_1_2:
            raise KeyFileError("this trusted key is of a TPM 1.2", "only the kernel of that machine opens it")
        split = 2 + int.from_bytes(data[:2], "big")
        key = cls(data[split:], data[:split], None)
        key._check()
        return key

    @classmethod
    def parse_text(cls, text: bytes) -> TPMKey:
        """A key from hex (``keyctl pipe``), PEM or the octets themselves; KeyFileError otherwise."""
        if len(text) > MAX_TEXT:
            raise KeyFileError("this is too large for a TPM key")
        stripped = text.strip()
        if re.fullmatch(rb"(?:[0-9A-Fa-f]{2})+", stripped):
            return cls.parse(bytes.fromhex(stripped.decode()))
        pem = re.fullmatch(rb"-----BEGIN ([A-Z0-9 ]+)-----\s(.*)-----END \1-----", stripped, re.DOTALL)
        if pem:
            if pem[1].decode() != PEM_LABEL:
                raise KeyFileError(f"the PEM block is no {PEM_LABEL}")
            try:
                return cls.parse_der(base64.b64decode(b"".join(pem[2].split()), validate=True))
            except binascii.Error as error:
                raise KeyFileError("the TPM key's base64 is damaged") from error
        return cls.parse(text)

    def encode(self) -> bytes:
        """The DER form, or the form before Linux 5.13 if there is no parent."""
        if self.parent is None:
            return self.private + self.public
        parts = [der.encode(der.OID, self.kind)]
        if self.empty_auth is not None:
            parts.append(der.encode(der.context(0), der.encode_boolean(self.empty_auth)))
        if self.policy:
            pairs = b"".join(_pair(code, octets) for code, octets in self.policy)
            parts.append(der.encode(der.context(1), der.encode(der.SEQUENCE, pairs)))
        if self.secret:
            parts.append(der.encode(der.context(2), der.encode(der.OCTETS, self.secret)))
        if self.description:
            parts.append(der.encode(der.context(4), der.encode(der.UTF8, self.description.encode())))
        if self.rsa_parent is not None:
            parts.append(der.encode(der.context(5), der.encode_boolean(self.rsa_parent)))
        parts.append(der.encode_integer(self.parent))
        parts += [der.encode(der.OCTETS, self.public), der.encode(der.OCTETS, self.private)]
        return der.encode(der.SEQUENCE, b"".join(parts))

    def pem(self) -> str:
        """The DER form as other TPM tools read it."""
        text = base64.b64encode(self.encode()).decode()
        lines = [text[n : n + 64] for n in range(0, len(text), 64)]
        return "\n".join([f"-----BEGIN {PEM_LABEL}-----", *lines, f"-----END {PEM_LABEL}-----", ""])

    def _check(self) -> None:
        if int.from_bytes(self.private[:2], "big") != len(self.private) - 2 or len(self.private) < 3:
            raise KeyFileError("the TPM key's private part is damaged")
        SealedPublic.parse(self.public)


def _boolean(body: der.Reader, number: int, what: str) -> bool | None:
    inner = body.optional(number, what)
    if inner is None:
        return None
    value = inner.boolean(what)
    inner.end(what)
    return value


def _octets(body: der.Reader, number: int, what: str) -> bytes:
    inner = body.optional(number, what)
    if inner is None:
        return b""
    content = inner.element(der.OCTETS, what)
    inner.end(what)
    return content


def _description(inner: der.Reader) -> str:
    content = inner.element(der.UTF8, "description")
    inner.end("description")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise KeyFileError("the TPM key's description is no UTF-8") from error


def _policy(body: der.Reader) -> tuple[tuple[int, bytes], ...]:
    outer = body.optional(1, "policy")
    if outer is None:
        return ()
    steps = der.Reader(outer.element(der.SEQUENCE, "policy"))
    outer.end("policy")
    pairs = []
    while steps.peek() is not None:
        step = der.Reader(steps.element(der.SEQUENCE, "policy step"))
        code, octets = step.optional(0, "command code"), step.optional(1, "command body")
        if code is None or octets is None:
            raise KeyFileError("the TPM key's policy is damaged")
        pairs.append((code.integer("command code"), octets.element(der.OCTETS, "command body")))
        code.end("command code")
        octets.end("command body")
        step.end("policy step")
    return tuple(pairs)


def _pair(code: int, octets: bytes) -> bytes:
    number = der.encode(der.context(0), der.encode_integer(code))
    return der.encode(der.SEQUENCE, number + der.encode(der.context(1), der.encode(der.OCTETS, octets)))

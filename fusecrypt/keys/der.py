"""DER, as much as TPM key files need: definite minimal lengths, nothing left over.

The reader is strict except for booleans, of which the kernel writes TRUE as 01 instead of FF.
"""

from __future__ import annotations

from fusecrypt.keys.errors import KeyFileError

BOOLEAN = 0x01
INTEGER = 0x02
OCTETS = 0x04
OID = 0x06
UTF8 = 0x0C
SEQUENCE = 0x30


def context(number: int) -> int:
    """The tag of an explicit context element."""
    return 0xA0 | number


def encode(tag: int, content: bytes) -> bytes:
    """One element."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def encode_integer(value: int) -> bytes:
    """A non-negative INTEGER."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def encode_boolean(value: bool) -> bytes:
    """A BOOLEAN; TRUE is FF."""
    return encode(BOOLEAN, b"\xff" if value else b"\0")


class Reader:
    """The elements of a constructed element, one after the other. Every method raises KeyFileError."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def peek(self) -> int | None:
        """The next tag, or None at the end."""
        return self._rest[0] if self._rest else None

    def element(self, tag: int, what: str) -> bytes:
        """The content of the next element, which must have this tag."""
        if self.peek() != tag:
            raise KeyFileError(f"the TPM key has no valid {what}")
        length, start = self._length(what)
        if len(self._rest) < start + length:
            raise KeyFileError(f"the TPM key ends inside its {what}")
        content, self._rest = self._rest[start : start + length], self._rest[start + length :]
        return content

    def optional(self, number: int, what: str) -> Reader | None:
        """The inside of an explicit context element if that is next."""
        if self.peek() != context(number):
            return None
        return Reader(self.element(context(number), what))

    def integer(self, what: str) -> int:
        """A non-negative INTEGER in its shortest form."""
        content = self.element(INTEGER, what)
        value = int.from_bytes(content, "big")
        if not content or content[0] & 0x80 or len(content) != value.bit_length() // 8 + 1:
            raise KeyFileError(f"the TPM key's {what} is no valid number")
        return value

    def boolean(self, what: str) -> bool:
        """A BOOLEAN; any octet but 00 is true."""
        content = self.element(BOOLEAN, what)
        if len(content) != 1:
            raise KeyFileError(f"the TPM key's {what} is no valid truth value")
        return content != b"\0"

    def end(self, what: str) -> None:
        """Nothing may follow."""
        if self._rest:
            raise KeyFileError(f"the TPM key has {len(self._rest)} octets too many in its {what}")

    def _length(self, what: str) -> tuple[int, int]:
        first = self._rest[1] if len(self._rest) > 1 else -1
        if 0 <= first < 0x80:
            return first, 2
        count = first & 0x7F
        octets = self._rest[2 : 2 + count]
        length = int.from_bytes(octets, "big")
        if not 1 <= count <= 2 or len(octets) != count or length < 0x80 or octets[0] == 0:
            raise KeyFileError(f"the TPM key's {what} has no valid length")
        return length, 2 + count

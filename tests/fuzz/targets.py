"""What octets of strangers meet first. Each target takes any octets, and fails only if something is wrong.

What is refused is refused with the documented error; what is taken says the same when it is written and
read again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from fusecrypt.errors import FormatError, SecretError, UsageError
from fusecrypt.keys import homes, payload, synology
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.token import AuthToken
from fusecrypt.keys.trusted import TPMKey
from fusecrypt.keys.wrapped import WrappedPassphrase
from fusecrypt.native import Names, Secret
from fusecrypt.ondisk.ciphers import CIPHERS, CipherChoice
from fusecrypt.ondisk.header import parse_header
from fusecrypt.ondisk.names import decode_name
from fusecrypt.ondisk.packets import parse_packets
from fusecrypt.sources import options
from tests import names as plain
from tests.names import encode_name

Target = Callable[[bytes], None]

_CHOICE = CipherChoice(CIPHERS["aes"], 32)
_TOKEN = AuthToken(b"fuzzfuzz", Secret.copy(bytes(range(64))))
_NAMES = Names(_CHOICE.code, _CHOICE.key_bytes, _TOKEN.key, _TOKEN.signature)


def header(data: bytes) -> None:
    with suppress(FormatError):
        known = parse_header(data)
        # Versions before 3 are written as version 3; what does not fit is refused.
        again = parse_header(known.encode())
        assert (again.size, again.marker, again.packets) == (known.size, known.marker, known.packets)


def packets(data: bytes) -> None:
    with suppress(FormatError):
        known = parse_packets(data)
        assert parse_packets(b"".join(packet.encode() for packet in known)) == known


def name(data: bytes) -> None:
    with suppress(FormatError):
        known = decode_name(data)
        assert decode_name(encode_name(known)) == known


def native_name(data: bytes) -> None:
    """Natively and in plain Python a lower name means the same."""
    assert _NAMES.decode(data) == plain.decode(_TOKEN, _CHOICE, data)


def wrapped(data: bytes) -> None:
    with suppress(FormatError):
        known = WrappedPassphrase.parse(data)
        assert WrappedPassphrase.parse(known.encode()) == known


def synology_export(data: bytes) -> None:
    with suppress(FormatError, SecretError):
        synology.unwrap_export(data).wipe()


def slot_file(data: bytes) -> None:
    with suppress(FormatError):
        known = SlotFile.parse(data)
        assert SlotFile.parse(known.encode()) == known


def tpm_key(data: bytes) -> None:
    with suppress(FormatError):
        known = TPMKey.parse(data)
        with suppress(FormatError):  # the public part is looked at when it is used
            assert known.sealed
        if known.parent is not None:  # the older form is only read
            assert TPMKey.parse_der(known.encode()) == known


def tpm_key_text(data: bytes) -> None:
    with suppress(FormatError):
        TPMKey.parse_text(data)


def encrypted_blob(data: bytes) -> None:
    with suppress(FormatError):
        known = EncryptedBlob.parse(data)
        assert EncryptedBlob.parse(known.text().encode(errors="surrogateescape")) == known


def keyring_payload(data: bytes) -> None:
    with suppress(FormatError, SecretError):
        known = payload.decode_payload(Secret.copy(data))
        assert payload.decode_payload(payload.encode_payload(known)) == known


def mount_options(data: bytes) -> None:
    with suppress(UsageError):
        options.parse([os.fsdecode(data)])


def home_files(data: bytes) -> None:
    with suppress(FormatError):
        assert len(homes.parse_signatures(data, "Private.sig")) in (1, 2)
    salt = homes.rc_salt(data)
    assert salt is None or len(salt) == 8


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        header,
        packets,
        name,
        native_name,
        wrapped,
        synology_export,
        slot_file,
        tpm_key,
        tpm_key_text,
        encrypted_blob,
        keyring_payload,
        mount_options,
        home_files,
    )
}

"""Whether a key is the one that its signature stands for, as far as a tree can tell.

A passphrase's key proves itself, since its signature derives from it. Any other is what options, a keyring or
a key-slot file say it is: encrypted names prove or disprove it, headers do not.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusecrypt.errors import KeyNotFoundError
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import Cipher, name_prefix
from fusecrypt.native import signature as signature_of
from fusecrypt.ondisk.ciphers import BY_CODE, CipherChoice
from fusecrypt.ondisk.names import NamePacket
from fusecrypt.tree.survey import Survey


def check_assigned(survey: Survey, tokens: Iterable[AuthToken]) -> None:
    """Refuse keys that the tree shows to be others than their signatures say.

    What would be written with such a key nobody could read. Raises KeyNotFoundError.
    """
    known = survey.content_signatures | survey.name_signatures
    for token in tokens:
        own = signature_of(token.key)
        if own == token.signature:
            continue
        if own in known:
            raise KeyNotFoundError(
                f"the key given as {token.sig} is {own.hex()}, another key of this tree",
                "were two exchanged? write SIG=FILE so that each file has its own signature",
            )
        if token.signature in survey.name_signatures and proven_cipher(survey, token) is None:
            raise KeyNotFoundError(
                f"the key given as {token.sig} does not open the names of this tree under that signature",
                "check which key belongs to which signature",
            )


def proven_cipher(survey: Survey, token: AuthToken) -> CipherChoice | None:
    """The cipher of the names under a key, as far as they have been seen."""
    for (signature, _), samples in survey.samples.items():
        if signature == token.signature:
            for cipher in filter(None, (prove_name_cipher(sample, token) for sample in samples)):
                return cipher
    return None


def prove_name_cipher(packet: NamePacket, token: AuthToken) -> CipherChoice | None:
    """The cipher and key size of an encrypted name, proven by its filling, or None if the key is wrong.

    AES codes say their key size; for the others every size is tried.
    """
    spec = BY_CODE.get(packet.code)
    if spec is None or len(packet.ciphertext) % spec.block:
        return None
    filling = name_prefix(token.key, 16)[: spec.block]
    for key_bytes, code in spec.codes.items():
        if code == packet.code:
            first = Cipher(code, key_bytes, token.key).decrypt(packet.ciphertext[: spec.block])
            if first == filling:
                return CipherChoice(spec, key_bytes)
    return None

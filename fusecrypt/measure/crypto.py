"""How fast extents are encrypted, by cipher, key size and extents a call, and what the machine could do.

The limits: ipsec-mb alone over the same extents; OpenSSL, which encrypts CBC one block after the other; and
copying the octets. All on one core, but for large batches in other ciphers than AES.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fusecrypt import __version__, native
from fusecrypt.measure.results import OURS, Results
from fusecrypt.measure.runner import Say
from fusecrypt.measure.workload import MIB, Row, Scale, seconds_of
from fusecrypt.native import EXTENT_BYTES, FileKey
from fusecrypt.ondisk.ciphers import AES, CIPHERS, CipherChoice

RAW, SERIAL, COPY = "ipsec-mb", "OpenSSL", "memcpy"
BATCHES = (1, 4, 32, 256)
"""Extents a call. It matters to AES only: other ciphers take one extent after the other."""
_USUAL = 32
_SKEW = 512
"""Octets of a page before the results, as in a mount: where a store looks like one to the data, it waits."""

Work = Callable[[int], object]
"""Does a number of rounds over its buffers."""


class Case(NamedTuple):
    """One row: what each contender does, and the octets of a round."""

    row: Row
    octets: int
    works: dict[str, Work]


def versions() -> dict[str, str]:
    """The contenders' names and what they are."""
    limits = {SERIAL: backend.openssl_version_text(), COPY: "the C library's"}
    raw = {RAW: "alone"} if native.engine() == RAW else {}
    return {OURS: f"{__version__}, {native.engine()}", **raw, **limits}


def cases() -> list[Case]:
    """All rows: AES in every batch, the other ciphers in the usual one."""
    choices = [CipherChoice(spec, n) for spec in CIPHERS.values() for n in spec.key_sizes]
    found = [_copy(_USUAL)]
    for choice in choices:
        for batch in BATCHES if choice.spec is AES else (_USUAL,):
            found += [_case(choice, batch, decrypt) for decrypt in (False, True)]
    return found


def crypto(results: Results, scale: Scale, todo: list[Case], say: Say) -> None:
    """Measure each case in each round."""
    for number in range(scale.rounds):
        for case in todo:
            say(f"round {number + 1} of {scale.rounds}: {case.row.what}")
            for name, work in case.works.items():
                results.add(name, case.row, _rate(work, case.octets, scale.crypto))


def _rate(work: Work, octets: int, seconds: float) -> float:
    """MiB/s, over at least so many seconds."""
    rounds = 1
    while (took := seconds_of(partial(work, rounds))) < seconds:
        rounds = max(2 * rounds, int(rounds * 1.2 * seconds / took))
    return rounds * octets / MIB / took


def _case(choice: CipherChoice, batch: int, decrypt: bool) -> Case:
    octets = batch * EXTENT_BYTES
    data, result = _room(octets), _room(octets, _SKEW)
    works: dict[str, Work] = {OURS: partial(_extents, choice, decrypt, data, result)}
    if choice.spec is AES:
        if native.engine() == RAW:
            works[RAW] = partial(native.raw_cbc, choice.key_bytes, decrypt, data, result)
        works[SERIAL] = partial(_serial, choice.key_bytes, decrypt, data)
    return Case(_row(f"{choice} {'decrypted' if decrypt else 'encrypted'}", batch), octets, works)


def _room(octets: int, behind: int = 0) -> memoryview:
    """Memory that begins so many octets behind a page's start."""
    return memoryview(mmap.mmap(-1, behind + octets))[behind:]


def _copy(batch: int) -> Case:
    octets = batch * EXTENT_BYTES
    data, result = bytearray(octets), bytearray(octets)

    def copy(rounds: int) -> None:
        for _ in range(rounds):
            result[:] = data

    return Case(_row("copied", batch), octets, {COPY: copy})


def _row(what: str, batch: int) -> Row:
    return Row("native crypto", f"{what}, {batch} a call", "MiB/s")


def _extents(choice: CipherChoice, decrypt: bool, data: memoryview, result: memoryview, rounds: int) -> None:
    key = FileKey.random(choice.code, choice.key_bytes)
    transform = key.decrypt_into if decrypt else key.encrypt_into
    for number in range(rounds):
        transform(number, data, result)


def _serial(key_bytes: int, decrypt: bool, data: memoryview, rounds: int) -> None:
    """One long message: no cost but that of the cipher."""
    cipher = Cipher(algorithms.AES(bytes(key_bytes)), modes.CBC(bytes(16)))
    context = cipher.decryptor() if decrypt else cipher.encryptor()
    room = bytearray(len(data) + 15)
    for _ in range(rounds):
        context.update_into(data, room)

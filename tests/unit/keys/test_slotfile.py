"""The key-slot file: what is read, what is refused, and what its secrets open."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusecrypt.errors import SecretError
from fusecrypt.keys.crypto import hkdf
from fusecrypt.keys.errors import KeyFileError, SlotError, WrongSecretError
from fusecrypt.keys.slotfile import CONTENT, MAX_KEYS, MAX_SLOTS, NAMES, SlotFile
from fusecrypt.keys.slots import kdf
from fusecrypt.keys.slots.kdf import Argon2, normal
from fusecrypt.keys.slots.passphrase import PassphraseEnrolment
from fusecrypt.keys.slots.recovery import RecoveryEnrolment
from fusecrypt.keys.slots.slot import Enrolment
from fusecrypt.keys.slots.tpm2 import split_key, split_pin
from fusecrypt.keys.token import DEFAULT_SALT, ENCRYPTED_KEY_SALT, AuthToken
from fusecrypt.keys.unlock import open_with_secret
from fusecrypt.keys.volume import Volume
from tests.unit.keys.secrets import octets, secret

COUNT = secret(bytes(range(32)))
TOKEN = AuthToken.from_passphrase(secret("test"))
OTHER = AuthToken(bytes(range(8)), secret(bytes(range(64))), ENCRYPTED_KEY_SALT)
PASSPHRASE = PassphraseEnrolment(secret("open sesame"))
RECOVERY = RecoveryEnrolment(COUNT)
VOLUME = (
    Volume.create([(TOKEN, (CONTENT,)), (OTHER, (NAMES,))])
    .add(PASSPHRASE, "mine")
    .add(RECOVERY)
    .with_key(TOKEN, (NAMES,))
)
SECRETS: tuple[Enrolment, Enrolment] = (PASSPHRASE, RECOVERY)
DOCUMENT = json.loads(VOLUME.file.encode())


def test_key_derivations() -> None:
    mac_key = hkdf(COUNT, bytes(16), b"fusecrypt/v1/file-mac")
    assert octets(mac_key).hex() == "94642e82c4147824b1502a2053e6e7bf64816e6952d4c62f65f2d6679e0b1509"
    wrap = split_key(COUNT, COUNT, bytes(16))
    assert octets(wrap).hex() == "516f3f317fb62bd440c34b5fa76ae6d99589a2eaccbddada8b9f8e36a7367f74"
    pair = split_pin(Argon2(bytes(range(16))), secret("1234"))
    assert octets(pair[0]).hex() == "aad568ab6a4dd860c14e0c0e9a4c3ce82429be42"
    assert octets(pair[1]).hex() == "02169d3ffcc4ee1e1639c388c285bb4ba09163cab263d7aa010eac83cdae9e25"


def test_each_slot_opens_the_same_keys() -> None:
    file = SlotFile.parse(VOLUME.file.encode())
    assert file == VOLUME.file
    for number, enrolment in enumerate(SECRETS):
        volume = Volume.open(file, number, enrolment)
        assert volume.intact
        first, second = volume.tokens()
        assert first.token.key == TOKEN.key
        assert (first.use, first.proven, first.token.salt) == ((CONTENT, NAMES), True, DEFAULT_SALT)
        assert second.token.key == OTHER.key
        assert (second.use, second.proven, second.token.salt) == ((NAMES,), False, ENCRYPTED_KEY_SALT)


def test_a_key_keeps_its_salt() -> None:
    """Only one that the key does not tell by itself is written: other files are as they always were."""
    salted = AuthToken.from_passphrase(secret("test"), b"saltsalt")
    planted = AuthToken(bytes(8), secret(bytes(64)), DEFAULT_SALT)
    volume = Volume.create(
        [(TOKEN, (CONTENT,)), (OTHER, (NAMES,)), (salted, (CONTENT,)), (planted, (NAMES,))]
    )
    volume = volume.add(RECOVERY).rotate({0: RECOVERY})
    keys = json.loads(volume.file.encode())["keys"]
    assert [key.get("salt") for key in keys] == [None, None, b"saltsalt".hex(), DEFAULT_SALT.hex()]
    opened = Volume.open(SlotFile.parse(volume.file.encode()), 0, RECOVERY)
    assert opened.intact
    salts = [TOKEN.salt, ENCRYPTED_KEY_SALT, b"saltsalt", DEFAULT_SALT]
    assert [held.token.salt for held in opened.tokens()] == salts


def test_wrong_secrets_open_nothing() -> None:
    others: tuple[Enrolment, ...] = (PassphraseEnrolment(secret("open sesame ")), RecoveryEnrolment())
    for number, wrong in enumerate(others):
        with pytest.raises(WrongSecretError):
            Volume.open(VOLUME.file, number, wrong)
    with pytest.raises(SlotError):
        Volume.open(VOLUME.file, 0, RECOVERY)
    with pytest.raises(SlotError):
        Volume.open(VOLUME.file, 2, PASSPHRASE)


def test_passphrases_do_not_depend_on_the_keyboard() -> None:
    assert normal(secret("a\u0308")) == normal(secret("\u00e4"))
    assert octets(normal(secret(b"\xff\xfe"))) == b"\xff\xfe"
    with pytest.raises(SecretError):
        normal(secret(""))


def test_no_secret_is_in_the_file() -> None:
    text = VOLUME.file.encode()
    for value in (VOLUME.key, TOKEN.key, COUNT, PASSPHRASE.passphrase):
        assert octets(value) not in text
        assert octets(value).hex().encode() not in text


def test_a_slot_of_an_unknown_kind_is_kept_and_never_counted_on() -> None:
    future = {"id": 7, "type": "fido2", "anything": {"deep": ["é", None, True]}, "wrap": 1}
    data = json.dumps({**DOCUMENT, "slots": [*DOCUMENT["slots"], future]}).encode()
    file = SlotFile.parse(data)
    assert json.loads(file.encode())["slots"][-1] == future
    volume = Volume(file.signed(VOLUME.key), VOLUME.key, True).remove(0)
    assert json.loads(volume.file.encode())["slots"][-1] == future
    with pytest.raises(SlotError):
        volume.remove(1)
    with pytest.raises(SlotError):
        volume.rotate({1: RECOVERY})
    assert [slot.id for slot in volume.rotate({1: RECOVERY}, drop=[7]).file.slots] == [1]


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """A change that sets the member at a path to a value; Ellipsis removes it."""
    *steps, name, value = path

    def apply(document: Any) -> None:
        for step in steps:
            document = document[step]
        if value is ...:
            del document[name]
        else:
            document[name] = value

    return apply


@pytest.mark.parametrize(
    "change",
    [
        _set("format", "other"),
        _set("version", 2),
        _set("version", True),
        _set("volume", DOCUMENT["volume"].upper() + "0"),
        _set("volume", "00" * 15),
        _set("seq", -1),
        _set("seq", 1 << 53),
        _set("seq", "1"),
        _set("extra", 1),
        _set("mac", ...),
        _set("mac", "AAAA"),
        _set("keys", {}),
        _set("keys", []),
        _set("keys", [DOCUMENT["keys"][0]] * 2),
        _set("keys", 0, "use", []),
        _set("keys", 0, "use", ["content", "content"]),
        _set("keys", 0, "use", [[]]),
        _set("keys", 0, "sig", "0123456789ABCDEF"),
        _set("keys", 0, "blob", DOCUMENT["keys"][0]["blob"].replace("trusted:fusecrypt", "user:fusecrypt")),
        _set("keys", 0, "blob", DOCUMENT["keys"][0]["blob"] + "\n"),
        _set("keys", 0, "blob", "\ud800"),
        _set("keys", 0, "salt", "00" * 7),
        _set("keys", 0, "salt", "AA" * 8),
        _set("keys", 0, "salt", None),
        _set("slots", [DOCUMENT["slots"][0]] * 2),
        _set("slots", [{**DOCUMENT["slots"][0], "id": n} for n in range(65)]),
        _set("slots", 0, "id", 0.0),
        _set("slots", 0, "id", True),
        _set("slots", 0, "type", ["passphrase"]),
        _set("slots", 0, "label", "\x1b[2J"),
        _set("slots", 0, "label", "x" * 201),
        _set("slots", 0, "created", "yesterday"),
        _set("slots", 0, "extra", 1),
        _set("slots", 0, "wrap", ...),
        _set("slots", 0, "wrap", "alg", "aes-128-gcm"),
        _set("slots", 0, "wrap", "nonce", "AAAA"),
        _set("slots", 0, "wrap", "data", DOCUMENT["slots"][0]["wrap"]["data"][:-1] + "\n"),
        _set("slots", 0, "kdf", "name", "pbkdf2"),
        _set("slots", 0, "kdf", "time", 65),
        _set("slots", 0, "kdf", "lanes", 65),
        _set("slots", 0, "kdf", "lanes", 0),
        _set("slots", 0, "kdf", "memory", 1 << 32),
        _set("slots", 0, "kdf", "salt", "AAAAAAAAAAAAAAAAAAAAAB=="),
        _set("slots", 1, "kdf", DOCUMENT["slots"][0]["kdf"]),
        _set("slots", 0, "type", "tpm2"),
    ],
)
def test_other_documents_are_refused(change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(VOLUME.file.encode())
    change(document)
    with pytest.raises(KeyFileError):
        SlotFile.parse(json.dumps(document).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"a":' * 100_000,
        b"[" * 100_000,
        VOLUME.file.encode() + b"{}",
        VOLUME.file.encode().replace(b'"seq":', b'"seq":1,"seq":'),
        VOLUME.file.encode().replace(b'"seq":', b'"seq":1e0,"x":'),
        VOLUME.file.encode().replace(b'"seq":', b'"seq":NaN,"x":'),
        VOLUME.file.encode().replace(b'"seq":', b'"seq":' + b"9" * 10_000),
        b" " * (1 << 20) + VOLUME.file.encode(),
    ],
)
def test_other_octets_are_refused(data: bytes) -> None:
    with pytest.raises(KeyFileError):
        SlotFile.parse(data)


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, len(VOLUME.file.encode()) - 2), st.integers(0, 255))
def test_a_changed_octet_is_refused_or_noticed(position: int, octet: int) -> None:
    data = bytearray(VOLUME.file.encode())
    if data[position] == octet:
        return
    data[position] = octet
    try:
        file = SlotFile.parse(bytes(data))
    except KeyFileError:
        return
    assert not file.authentic(VOLUME.key)


@pytest.mark.parametrize(
    ("memory", "time"), [(19 * 1024 - 1, 64), (19 * 1024, 5), (32768, 2), (1024 * 1024 + 1, 1), (1 << 31, 1)]
)
def test_planted_parameters_are_refused_before_any_work(memory: int, time: int) -> None:
    with pytest.raises(SlotError):
        Argon2(bytes(16), time=time, memory=memory).derive(secret("x"), 32)


def test_much_memory_is_taken_for_a_named_slot_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdf, "MAX_MEMORY", 1024)
    with pytest.raises(SlotError, match="unless it is named") as caught:
        open_with_secret(VOLUME.file, PASSPHRASE.passphrase)
    assert "--slot N" in caught.value.hint
    assert open_with_secret(VOLUME.file, PASSPHRASE.passphrase, slot=0)[1] == 0


def test_a_changed_file_is_read_only() -> None:
    document = json.loads(VOLUME.file.encode())
    document["slots"][1]["label"] = "planted"
    changed = Volume.open(SlotFile.parse(json.dumps(document).encode()), 0, PASSPHRASE)
    assert not changed.intact
    assert changed.tokens()[0].token.key == TOKEN.key
    with pytest.raises(SlotError, match="nothing is written"):
        changed.add(RecoveryEnrolment())


def test_slots_cannot_be_moved_between_volumes_or_numbers() -> None:
    other = json.loads(Volume.create([(TOKEN, (CONTENT,))]).add(RECOVERY).file.encode())
    other["slots"] = [DOCUMENT["slots"][0]]
    with pytest.raises(WrongSecretError):
        Volume.open(SlotFile.parse(json.dumps(other).encode()), 0, PASSPHRASE)
    document = json.loads(VOLUME.file.encode())
    document["slots"][0]["id"] = 5
    with pytest.raises(WrongSecretError):
        Volume.open(SlotFile.parse(json.dumps(document).encode()), 5, PASSPHRASE)


def test_a_damaged_stored_key_is_named() -> None:
    document = json.loads(VOLUME.file.encode())
    blob = document["keys"][0]["blob"]
    document["keys"][0]["blob"] = blob[:-1] + ("0" if blob[-1] != "0" else "1")
    volume = Volume.open(SlotFile.parse(json.dumps(document).encode()), 1, RECOVERY)
    with pytest.raises(KeyFileError, match=TOKEN.sig):
        volume.tokens()


def test_there_is_no_room_for_more_than_a_reader_takes() -> None:
    volume = VOLUME
    for _ in range(MAX_SLOTS - len(VOLUME.file.slots)):
        volume = volume.add(RECOVERY)
    assert SlotFile.parse(volume.file.encode()) == volume.file
    with pytest.raises(SlotError, match="64 slots"):
        volume.add(RECOVERY)
    for number in range(MAX_KEYS - len(VOLUME.file.keys)):
        volume = volume.with_key(AuthToken(bytes([number] * 8), OTHER.key), (CONTENT,))
    assert SlotFile.parse(volume.file.encode()) == volume.file
    with pytest.raises(SlotError, match="64 keys"):
        volume.with_key(AuthToken(b"\xff" * 8, OTHER.key), (CONTENT,))


def test_the_last_slot_without_a_tpm_stays() -> None:
    volume = VOLUME.remove(0)
    with pytest.raises(SlotError, match="last slot"):
        volume.remove(1)


def test_change_keeps_number_and_label() -> None:
    volume = VOLUME.change(0, PassphraseEnrolment(secret("new words")))
    assert (volume.file.slot(0).label, volume.file.seq) == ("mine", VOLUME.file.seq + 1)
    Volume.open(volume.file, 0, PassphraseEnrolment(secret("new words")))
    with pytest.raises(WrongSecretError):
        Volume.open(volume.file, 0, PASSPHRASE)


def test_rotate_needs_every_secret_and_gives_a_new_key() -> None:
    with pytest.raises(SlotError, match="slots 1"):
        VOLUME.rotate({0: PASSPHRASE})
    with pytest.raises(WrongSecretError):
        VOLUME.rotate({0: PASSPHRASE, 1: RecoveryEnrolment()})
    volume = VOLUME.rotate({0: PASSPHRASE, 1: RECOVERY})
    assert volume.key != VOLUME.key
    assert not volume.file.authentic(VOLUME.key)
    for number, enrolment in enumerate(SECRETS):
        opened = Volume.open(volume.file, number, enrolment)
        assert opened.intact
        assert [held.token.key for held in opened.tokens()] == [TOKEN.key, OTHER.key]
    assert not {key.blob.text() for key in volume.file.keys} & {key.blob.text() for key in VOLUME.file.keys}


def test_two_keys_with_one_signature_are_refused() -> None:
    with pytest.raises(SlotError):
        VOLUME.with_key(AuthToken(TOKEN.signature, OTHER.key), (CONTENT,))


def test_keys_are_removed_by_signature() -> None:
    volume = VOLUME.without_key(OTHER.signature)
    assert [key.sig for key in volume.file.keys] == [TOKEN.signature]
    for sig in (OTHER.signature, TOKEN.signature):
        with pytest.raises(SlotError):
            volume.without_key(sig)

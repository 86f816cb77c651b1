"""Key-slot files at mount: passphrases, recovery keys, TPMs and PINs on an existing tree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fusecrypt.keys.slotfile import CONTENT, NAMES
from fusecrypt.keys.slots.passphrase import PassphraseEnrolment
from fusecrypt.keys.slots.recovery import RecoveryEnrolment, write_key
from fusecrypt.keys.slots.slot import Enrolment
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.token import FNEK_SALT, AuthToken
from fusecrypt.keys.tpm.facts import lockout
from fusecrypt.keys.volume import Volume
from fusecrypt.tree.headers import find_header
from tests import golden
from tests.mount.keys import SOFTWARE, extend, shows_golden, software_tpm
from tests.mount.support import mounted, run
from tests.tpm.conftest import SoftwareTPM
from tests.unit.keys.secrets import octets, secret

TREE = golden.tree("aes16-fnek")
PIN = "4711"
WORDS = "slot words"


@pytest.fixture
def tpm() -> Iterator[SoftwareTPM]:
    with software_tpm() as running:
        yield running


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    """A golden tree. Nothing that this user has seen of key-slot files plays a part."""
    (tmp_path / "mnt").mkdir()
    return TREE.unpack(tmp_path / "lower")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def tree_volume() -> Volume:
    """The golden tree's keys in a volume that has a passphrase slot."""
    with secret(TREE.passphrases[0]) as passphrase:
        content = AuthToken.from_passphrase(passphrase)
        names = AuthToken.from_passphrase(passphrase, FNEK_SALT)
    volume = Volume.create([(content, (CONTENT,)), (names, (NAMES,))])
    return volume.add(PassphraseEnrolment(secret(WORDS)))


def write(path: Path, *enrolments: Enrolment) -> Path:
    """A key-slot file of the golden tree with a passphrase slot 0 and these slots."""
    volume = tree_volume()
    for enrolment in enrolments:
        volume = volume.add(enrolment)
    path.parent.mkdir(parents=True, exist_ok=True)
    SlotStore(path).create(volume)
    return path


def beside(lower: Path) -> Path:
    return lower.with_name(lower.name + ".keyslots")


def shows(lower: Path, *words: str | Path, software: bool = False) -> None:
    shows_golden(TREE, lower, *map(str, words), log_allows=(SOFTWARE,) if software else ())


def refused(lower: Path, *words: str | Path, status: int = 3, secrets: Sequence[str] = ()) -> str:
    """Try to mount without a terminal; what is said when it is refused."""
    files = []
    for number, text in enumerate(secrets):
        path = lower.with_name(f"secret{number}")
        path.write_text(text)
        files += ["--passfile", str(path)]
    done = run("mount", *files, *words, lower, lower.with_name("mnt"), status=status, start_new_session=True)
    return done.stderr


def file_of(directory: Path, text: str | bytes) -> Path:
    path = directory / f"secret-{len(list(directory.iterdir()))}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_secret_may_be_any_of_the_trees(lower: Path, tmp_path: Path) -> None:
    recovery = RecoveryEnrolment()
    write(beside(lower), recovery)
    text = octets(write_key(recovery.key))
    for typed in (WORDS, text, text.lower().replace(b"-", b" "), TREE.passphrases[0]):
        shows(lower, "--passfile", file_of(tmp_path, typed))


def test_a_named_file_and_slot(lower: Path, tmp_path: Path) -> None:
    recovery = RecoveryEnrolment()
    file = write(tmp_path / "elsewhere", recovery)
    words = file_of(tmp_path, WORDS)
    shows(lower, "--keyslots", file, "--passfile", words)
    shows(lower, "--keyslots", file, "--slot", "0", "--passfile", words)
    message = refused(lower, "--keyslots", file, "--slot", "1", "--passfile", words)
    assert "the secret does not open slot 1" in message
    message = refused(lower, "--keyslots", file, "--slot", "7", "--passfile", words)
    assert "no slot 7" in message
    assert "no key-slot file of this tree" in refused(lower, "--slot", "0", "--passfile", words, status=2)


def test_files_are_found_by_the_trees_signature(lower: Path, tmp_path: Path) -> None:
    sig = TREE.keys[0].signature
    file = write(tmp_path / "config" / "fusecrypt" / "keyslots" / f"{sig}.keyslots")
    words = file_of(tmp_path, WORDS)
    shows(lower, "--passfile", words)
    file.chmod(0o666)
    message = refused(lower, "--passfile", words)
    assert f"{file} is not used: it can be written by others" in message
    shows(lower, "--passfile", words, "--keyslots", file)


def test_a_tpm_slot_needs_no_word(lower: Path, tpm: SoftwareTPM) -> None:
    with tpm.open() as opened:
        write(beside(lower), TPM2Enrolment(opened))
    shows(lower, "--tcti", tpm.tcti, software=True)
    tpm.reboot()
    shows(lower, "--tcti", tpm.tcti, software=True)


def test_a_pin_is_taken_from_its_own_file_only(lower: Path, tmp_path: Path, tpm: SoftwareTPM) -> None:
    with tpm.open() as opened:
        write(beside(lower), TPM2Enrolment(opened, secret(PIN)))
    pin = file_of(tmp_path, PIN)
    shows(lower, "--tcti", tpm.tcti, "--pin-file", pin, software=True)
    message = refused(lower, "--tcti", tpm.tcti, secrets=[PIN])
    assert "the secret does not open any slot" in message
    message = refused(lower, "--tcti", tpm.tcti, "--pin-file", file_of(tmp_path, WORDS))
    assert "the PIN is wrong" in message
    assert "attempts left: " in message
    with tpm.open() as opened:
        assert lockout(opened).failed == 1


def test_a_slot_bound_to_pcr_7(lower: Path, tmp_path: Path, tpm: SoftwareTPM) -> None:
    """It opens in the state it was made in; in another one the recovery key does."""
    recovery = RecoveryEnrolment()
    with tpm.open() as opened:
        extend(opened, 7)
        write(beside(lower), recovery, TPM2Enrolment(opened, pcrs=("sha256", (7,))))
    shows(lower, "--tcti", tpm.tcti, software=True)
    with tpm.open() as opened:
        extend(opened, 7)
    message = refused(lower, "--tcti", tpm.tcti)
    assert "slot 2: the boot state changed (sha256): PCR 7: expected" in message
    shows(lower, "--tcti", tpm.tcti, "--passfile", file_of(tmp_path, octets(write_key(recovery.key))))


def test_another_tpm_and_none(lower: Path, tmp_path: Path, tpm: SoftwareTPM) -> None:
    recovery = RecoveryEnrolment()
    with tpm.open() as opened:
        write(beside(lower), recovery, TPM2Enrolment(opened), TPM2Enrolment(opened, secret(PIN)))
    with software_tpm() as other:
        message = refused(lower, "--tcti", other.tcti)
        assert "slot 2: this TPM was cleared, or is another one" in message
        message = refused(lower, "--tcti", other.tcti, "--pin-file", file_of(tmp_path, PIN))
        assert "slot 3: this TPM was cleared, or is another one" in message
    message = refused(lower, "--tcti", f"swtpm:path={tmp_path / 'none'}")
    assert message.count("the TPM slots are passed over") == 1
    words = ["--tcti", f"swtpm:path={tmp_path / 'none'}"]
    shows(lower, *words, "--passfile", file_of(tmp_path, octets(write_key(recovery.key))))


def test_each_refusal_is_one_line(lower: Path, tpm: SoftwareTPM) -> None:
    recovery = RecoveryEnrolment()
    with tpm.open() as opened:
        write(beside(lower), recovery, TPM2Enrolment(opened, pcrs=("sha256", (7,)), forced=True))
        extend(opened, 7)
    text = octets(write_key(recovery.key)).decode()
    mistyped = ("1" if text[0] != "1" else "2") + text[1:]
    message = refused(lower, "--tcti", tpm.tcti, secrets=["unknown words", mistyped, "x" * 100])
    lines = [line for line in message.splitlines() if not line.startswith("  hint:")]
    assert len(lines) == 3
    assert "group 1 of the recovery key is mistyped" in lines[1]
    assert not any(word in message for word in ("unknown words", mistyped, "xxxx"))
    lines = refused(lower, "--tcti", tpm.tcti).splitlines()
    assert [line.startswith("fusecrypt: ") for line in lines] == [True, True, True, False]
    assert SOFTWARE in lines[0]
    assert "slot 2: the boot state changed" in lines[1]
    assert "no terminal" in lines[2]


def test_a_file_whose_mac_is_wrong_mounts_for_reading(lower: Path, tmp_path: Path) -> None:
    file = write(beside(lower))
    text = file.read_text()
    file.write_text(text.replace('"seq":1', '"seq":2'))
    words = file_of(tmp_path, WORDS)
    said = "changed by somebody without its keys"
    with mounted(lower, "--passfile", str(words), passphrases=(), log_allows=(said,)) as mount:
        assert said in mount.messages
        assert os.statvfs(mount.path).f_flag & os.ST_RDONLY
        assert os.listdir(mount.path)


def test_an_older_copy_is_named_as_one(lower: Path, tmp_path: Path) -> None:
    file, words = write(beside(lower)), file_of(tmp_path, WORDS)
    volume = tree_volume()
    file.unlink()
    SlotStore(file).create(volume)
    store, before = SlotStore(file), volume.file
    store.save(volume.add(RecoveryEnrolment()), before, revokes=False)
    shows(lower, "--passfile", words)
    file.write_bytes(before.encode())
    with mounted(lower, "--passfile", str(words), passphrases=(), log_allows=("older copy",)) as mount:
        assert "older copy" in mount.messages


def test_keys_for_a_new_tree(tmp_path: Path) -> None:
    """A key-slot file tells which key is for contents and which for names."""
    file, words = write(tmp_path / "file"), file_of(tmp_path, WORDS)
    lower = tmp_path / "new"
    with mounted(lower, "--keyslots", str(file), "--passfile", str(words), passphrases=()) as mount:
        (mount.path / "name").write_text("text")
    with mounted(lower, passphrases=TREE.passphrases) as mount:
        assert (mount.path / "name").read_text() == "text"


def test_new_files_carry_the_keys_own_salt(tmp_path: Path) -> None:
    """As they do when the passphrase itself is given with its salt: the kernel's tools find it there."""
    tree = golden.tree("salt")
    lower, secrets = tree.unpack(tmp_path / "lower"), file_of(tmp_path, tree.passphrases[0])
    salt = tree.keys[0].salt
    words: list[str | Path] = ["--passfile", secrets, "--salt", salt.hex(), "--recovery-file", tmp_path / "R"]
    run("key", "create", lower, "--keyslots", beside(lower), *words)
    before = set(lower.rglob("*"))
    with mounted(lower, "--passfile", str(tmp_path / "R"), passphrases=()) as mount:
        (mount.path / "new").write_text("text")
    (new,) = set(lower.rglob("*")) - before
    with new.open("rb") as file:
        (packet,) = find_header(file.fileno()).header.passphrase_packets
    assert packet.salt == salt
    assert packet.signature.hex() == tree.keys[0].signature


def test_the_daemon_has_no_tpm_library_and_no_kdf(lower: Path, tpm: SoftwareTPM) -> None:
    """It is another process than the one that unlocks: it maps neither library, and holds no passphrase."""
    with tpm.open() as opened:
        write(beside(lower), TPM2Enrolment(opened))
    with mounted(lower, "--tcti", tpm.tcti, passphrases=(), log_allows=(SOFTWARE,)) as mount:
        maps = Path(f"/proc/{mount.pid}/maps").read_text()
        assert "_native" in maps
        assert not any(name in maps for name in ("libtss2", "tpm2_pytss", "cryptography"))

"""What ecryptfs-utils left: homes, wrapped passphrases, salts, tokens on the keyring; and raw keys."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.keyctl import USER, add_key, unlink
from fusecrypt.keys.keyring import add_token, remove_token
from fusecrypt.keys.synology import wrap_export
from fusecrypt.keys.token import FNEK_SALT, AuthToken
from tests import golden, manifest
from tests.mount.keys import shows_golden
from tests.mount.support import PROGRAM, mounted, run
from tests.unit.keys.secrets import octets, secret

USERSPACE = golden.DIRECTORY / "userspace"
FACTS = json.loads((USERSPACE / "home.json").read_text())
LOGIN, MOUNT = FACTS["login_passphrase"].encode(), FACTS["mount_passphrase"].encode()
TREE = golden.tree("aes16-fnek")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that ecryptfs-setup-private set up, with files that the kernel wrote."""
    golden.unpack(USERSPACE / "home.tar.xz", tmp_path / "home")
    (tmp_path / "mnt").mkdir()
    return tmp_path / "home" / "alice"


@pytest.fixture
def tokens() -> Iterator[list[AuthToken]]:
    """The keys of a golden tree; what of them a test puts on the user keyring is taken off."""
    passphrase = secret(TREE.passphrases[0])
    made = [AuthToken.from_passphrase(passphrase), AuthToken.from_passphrase(passphrase, FNEK_SALT)]
    yield made
    for token in made:
        while remove_token(token.signature):
            pass


def file_of(directory: Path, name: str, content: bytes) -> Path:
    path = directory / name
    path.write_bytes(content)
    return path


def shows_private(lower: Path, *words: str | Path) -> None:
    """The home's private directory shows what the kernel showed."""
    expected = manifest.load(USERSPACE / "private-manifest.json")
    with mounted(lower, *map(str, words), passphrases=(), path=lower.parent / "private.mnt") as mount:
        assert manifest.diff(expected, manifest.manifest(mount.path)) == []


def test_the_login_passphrase_opens_a_private_directory(home: Path, tmp_path: Path) -> None:
    lower, login = home / ".Private", file_of(tmp_path, "login", LOGIN + b"\n")
    shows_private(lower, "--passfile", login)
    shows_private(lower, "--passfile", file_of(tmp_path, "mount", MOUNT))
    wrapped = (home / ".ecryptfs" / "wrapped-passphrase").rename(tmp_path / "wrapped")
    for name in ("login", "mount"):
        shows_private(lower, "--wrapped-passphrase", wrapped, "--passfile", tmp_path / name)
    message = run("mount", "--passfile", login, lower, tmp_path / "mnt", status=3).stderr
    assert "does not fit this tree" in message


def test_the_layout_of_a_whole_home(home: Path, tmp_path: Path) -> None:
    """Both directories stand in .ecryptfs/USER beside the homes, and the home has symbolic links."""
    hidden = tmp_path / "home" / ".ecryptfs" / "alice"
    hidden.mkdir(parents=True)
    for name in (".Private", ".ecryptfs"):
        (home / name).rename(hidden / name)
        (home / name).symlink_to(hidden / name)
    shows_private(home / ".Private", "--passfile", file_of(tmp_path, "login", LOGIN))


def test_a_private_directory_without_a_file(home: Path, tmp_path: Path) -> None:
    """Its signature file tells which keys the login passphrase stands for."""
    shutil.rmtree(home / ".Private")
    lower = home / ".Private"
    login = ["--passfile", str(file_of(tmp_path, "login", LOGIN))]
    with mounted(lower, *login, passphrases=()) as mount:
        (mount.path / "name").write_text("text")
    # mount.ecryptfs_private would not find names under another cipher than its own.
    identified = run("identify", lower).stdout
    assert "files   1 with aes-128, key 707dd06f8443a678" in identified
    assert "names   1 with aes-128, key ec2bdc60f6ad46fc" in identified
    options = "ecryptfs_sig=707dd06f8443a678,ecryptfs_fnek_sig=ec2bdc60f6ad46fc"
    with mounted(lower, "-o", options, passphrases=(MOUNT,)) as mount:
        assert (mount.path / "name").read_text() == "text"


def test_a_private_directory_without_a_name_key(home: Path, tmp_path: Path) -> None:
    """One line in its signature file: the login mounts it with plain names."""
    shutil.rmtree(home / ".Private")
    (home / ".ecryptfs" / "Private.sig").write_text("707dd06f8443a678\n")
    login = ["--passfile", str(file_of(tmp_path, "login", LOGIN))]
    with mounted(home / ".Private", *login, passphrases=()) as mount:
        (mount.path / "name").write_text("text")
    assert os.listdir(home / ".Private") == ["name"]


def test_another_tree_in_a_home_is_not_the_private_directory(home: Path, tmp_path: Path) -> None:
    """A new one has keys of its own; a copy of the private directory still opens with the login password."""
    with mounted(home / "vault", passphrases=(b"of its own",)) as mount:
        (mount.path / "name").write_text("text")
    shutil.copytree(home / ".Private", home / "copy")
    login = file_of(tmp_path, "login", LOGIN)
    assert "new" not in run("ls", "--passfile", login, home / "copy").stderr


@pytest.mark.parametrize("damage", ["damaged", None])
def test_a_login_passphrase_without_the_signature_file(
    damage: str | None, home: Path, tmp_path: Path
) -> None:
    """The tree itself shows which keys it wants."""
    signatures = home / ".ecryptfs" / "Private.sig"
    signatures.write_text(damage) if damage else signatures.unlink()
    said = run("ls", "--passfile", file_of(tmp_path, "login", LOGIN), home / ".Private").stderr
    assert ("does not hold one or two signatures" in said) == bool(damage)


@pytest.mark.parametrize("name", ["Private.sig", "wrapped-passphrase"])
def test_a_damaged_layout_does_not_stand_in_the_way(name: str, home: Path, tmp_path: Path) -> None:
    (home / ".ecryptfs" / name).write_bytes(b"damaged")
    mount = ["--passfile", str(file_of(tmp_path, "mount", MOUNT))]
    said = "signature"
    with mounted(home / ".Private", *mount, passphrases=(), log_allows=(said,)) as mounted_home:
        assert said in mounted_home.messages
        assert len(os.listdir(mounted_home.path)) == 4


def test_a_user_without_a_home(open_tmp_path: Path) -> None:
    """Nobody's number, no HOME: what would be looked for there is not there."""
    lower, mnt = TREE.unpack(open_tmp_path / "lower"), open_tmp_path / "mnt"
    mnt.mkdir()
    wrong = file_of(open_tmp_path, "wrong", b"wrong")
    nobody = {"user": 4242, "group": 4242, "extra_groups": []}
    environment = {"PATH": os.environ["PATH"]}
    done = run("mount", "--passfile", wrong, lower, mnt, status=3, ids=nobody, env=environment)
    assert "does not fit" in done.stderr


def test_a_wrong_login_passphrase(home: Path, tmp_path: Path) -> None:
    wrong, lower = file_of(tmp_path, "wrong", b"not it\n"), home / ".Private"
    message = run("mount", "--passfile", wrong, lower, tmp_path / "mnt", status=3).stderr
    assert message.startswith("fusecrypt: the passphrase fits no key of this tree: it wants ")
    assert f"`fusecrypt key wrap {home}/.ecryptfs/wrapped-passphrase`, which sets the new one" in message
    wrapped: list[str | Path] = ["--wrapped-passphrase", home / ".ecryptfs" / "wrapped-passphrase"]
    message = run("mount", *wrapped, "--passfile", wrong, lower, tmp_path / "mnt", status=3).stderr
    assert "fits no key of this tree" in message
    other = TREE.unpack(tmp_path / "other")
    login = file_of(tmp_path, "login", LOGIN)
    message = run("mount", *wrapped, "--passfile", login, other, tmp_path / "mnt", status=3).stderr
    assert "wrapped-passphrase, but that fits no key of this tree" in message
    for words in (wrapped, wrapped[:0]):
        done = run("mount", *words, lower, tmp_path / "mnt", status=3, start_new_session=True)
        assert "no terminal to ask on" in done.stderr


def test_a_prompt_takes_what_a_file_may_hold(home: Path, tmp_path: Path) -> None:
    lower, mnt = home / ".Private", tmp_path / "mnt"
    shown = type_at_prompts(["mount", lower, mnt], "wrong passphrase", LOGIN.decode())
    assert shown.count("passphrase: ") == 2
    assert "fits no key of this tree" in shown
    assert LOGIN.decode() not in shown
    assert len(os.listdir(mnt)) == 4
    run("umount", mnt)


def test_a_key_file_of_synology(tmp_path: Path) -> None:
    """Its wrapping passphrase is no secret: nothing is asked for."""
    lower = TREE.unpack(tmp_path / "lower")
    export = file_of(tmp_path, "share.key", wrap_export(secret(TREE.passphrases[0])))
    shows_golden(TREE, lower, "--wrapped-passphrase", str(export))


def test_the_salt_of_an_rc_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = golden.tree("salt")
    lower = tree.unpack(tmp_path / "lower")
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["--passfile", str(file_of(tmp_path, "pass", tree.passphrases[0]))]
    assert "no given key opens the files" in run("mount", *words, lower, _mnt(tmp_path), status=3).stderr
    file_of(tmp_path, ".ecryptfsrc", f"key=passphrase,salt={tree.keys[0].salt.hex()}\n".encode())
    shows_golden(tree, lower, *words)
    # A tree of the default salt opens too.
    shows_golden(TREE, TREE.unpack(tmp_path / "other"), "--passfile", str(_pass(tmp_path)))


def test_keys_on_the_keyring(tokens: list[AuthToken], tmp_path: Path) -> None:
    lower, mnt = TREE.unpack(tmp_path / "lower"), _mnt(tmp_path)
    sig, fnek = tokens[0].sig, tokens[1].sig
    lines = run("mount", "--keyring", lower, mnt, status=3).stderr.splitlines()
    assert [f"hold no key {each}" in line for each, line in zip(sorted((sig, fnek)), lines, strict=False)]
    add_token(tokens[0])
    assert "no given key opens the names" in run("mount", "--keyring", lower, mnt, status=3).stderr
    add_token(tokens[1])
    named = f"ecryptfs_sig={sig},ecryptfs_fnek_sig={fnek}"
    for words in (["--keyring"], ["-o", named], ["--keyring", "-o", named]):
        shows_golden(TREE, lower, *words)


def test_a_broken_key_beside_a_good_one_is_named(tokens: list[AuthToken], tmp_path: Path) -> None:
    lower, mnt = TREE.unpack(tmp_path / "lower"), _mnt(tmp_path)
    add_token(tokens[1])
    add_key("user", tokens[0].sig, secret(b"no auth token"), USER)
    said = run("mount", "--keyring", lower, mnt, status=3).stderr
    assert f"key {tokens[0].sig} in the keyring: the key has 13 octets" in said
    assert "no given key opens the files" in said


def test_named_keys_that_no_passphrase_yields(tokens: list[AuthToken], tmp_path: Path) -> None:
    """A key for names from the keyring beside a passphrase for contents: ecryptfs-utils' two passphrases."""
    tree = golden.tree("aes16-fnek-other-passphrase")
    lower = tree.unpack(tmp_path / "lower")
    assert tree.fnek is not None
    assert tree.fnek.passphrase is not None
    names = AuthToken.from_passphrase(secret(tree.fnek.passphrase), tree.fnek.salt)
    add_token(names)
    tokens.append(names)
    options = f"ecryptfs_sig={tree.keys[0].signature},ecryptfs_fnek_sig={names.sig}"
    assert tree.keys[0].passphrase is not None
    content = file_of(tmp_path, "content", tree.keys[0].passphrase)
    shows_golden(tree, lower, "-o", options, "--passfile", str(content))


def test_an_encrypted_key_on_the_keyring(tokens: list[AuthToken], tmp_path: Path) -> None:
    """The kernel shows such a key as text only: it is opened with its master, which must be there too."""
    lower = TREE.unpack(tmp_path / "lower")
    master = secret(bytes(range(32)))
    serial = add_key("user", "fusecrypt-test-master", master, USER)
    try:
        for token in tokens:
            text = EncryptedBlob.seal(token.key, master, "user:fusecrypt-test-master").text()
            add_key("encrypted", token.sig, secret(f"load {text}"), USER)
        shows_golden(TREE, lower, "--keyring")
    finally:
        unlink(serial, USER)


def test_raw_keys(tokens: list[AuthToken], tmp_path: Path) -> None:
    lower, mnt = TREE.unpack(tmp_path / "lower"), _mnt(tmp_path)
    words = []
    for number, token in enumerate(tokens):
        path = file_of(tmp_path, f"raw{number}", octets(token.key))
        words += ["--raw-key", f"{token.sig}={path}" if number else str(path)]
    shows_golden(TREE, lower, *words)
    assert "no given key opens the names" in run("mount", *words[:2], lower, mnt, status=3).stderr
    exchanged = [f"--raw-key={token.sig}={tmp_path / f'raw{1 - n}'}" for n, token in enumerate(tokens)]
    assert "another key of this tree" in run("mount", *exchanged, lower, mnt, status=3).stderr
    other = file_of(tmp_path, "other", bytes(64))
    mistaken = ["--raw-key", f"{tokens[0].sig}={other}", *words[2:]]
    refusal = "not the one that this tree's files are encrypted with"
    assert refusal in run("mount", *mistaken, lower, mnt, status=3).stderr
    assert refusal in run("key", "create", lower, *mistaken, status=3).stderr
    short = file_of(tmp_path, "short", bytes(63))
    assert "63 octets" in run("mount", "--raw-key", short, lower, mnt, status=3).stderr


def type_at_prompts(words: list[str | Path], *answers: str) -> str:
    """Run fusecrypt on a terminal of its own, answer its prompts; all that the terminal showed."""
    controller, terminal = pty.openpty()
    command = ["setsid", "--ctty", "--wait", PROGRAM, *words]
    shown = b""
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        for answer in answers:
            while not shown.endswith(b"passphrase: "):
                shown += _read(controller)
            os.write(controller, answer.encode() + b"\n")
            shown += _read(controller)
        assert process.wait(60) == 0, shown
    os.close(controller)
    return shown.decode()


def _read(terminal: int) -> bytes:
    """What a terminal shows next; it must show something within a minute."""
    ready, _, _ = select.select([terminal], [], [], 60)
    assert ready, "the terminal stays silent"
    return os.read(terminal, 1024)


def _mnt(directory: Path) -> Path:
    (directory / "mnt").mkdir()
    return directory / "mnt"


def _pass(directory: Path) -> Path:
    return file_of(directory, "other-pass", TREE.passphrases[0])

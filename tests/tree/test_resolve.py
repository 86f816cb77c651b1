"""Which keys and options are taken for which tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.errors import FusecryptError, KeyNotFoundError, TreeError, UsageError
from fusecrypt.keys.token import FNEK_SALT
from fusecrypt.ondisk.ciphers import choose
from fusecrypt.ondisk.header import Header
from fusecrypt.ondisk.packets import PublicKeyPacket
from fusecrypt.tree.proof import prove_name_cipher
from fusecrypt.tree.resolve import Options, resolve
from fusecrypt.tree.survey import Survey, survey_steps
from tests import golden
from tests.tree.support import User, candidates, lower_name, open_tree, opened, policy, resolved, token

NEW = Options()


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    path = tmp_path / "lower"
    path.mkdir()
    return path


def unpacked(name: str, tmp_path: Path) -> tuple[golden.GoldenTree, Path]:
    tree = golden.tree(name)
    return tree, tree.unpack(tmp_path / name)


# Keys that fit and keys that do not


def test_a_wrong_passphrase_is_refused_with_all_signatures(tmp_path: Path) -> None:
    kernels, lower = unpacked("aes16-fnek", tmp_path)
    assert kernels.fnek
    with pytest.raises(KeyNotFoundError) as caught:
        resolved(lower, [b"wrong"])
    for signature in (kernels.keys[0].signature, kernels.fnek.signature):
        assert signature in str(caught.value)
    for given in candidates(b"wrong").tokens:
        assert given.sig in str(caught.value)
    assert caught.value.hint


def test_a_wrong_passphrase_beside_the_right_one_is_refused(tmp_path: Path) -> None:
    kernels, lower = unpacked("aes16-fnek", tmp_path)
    with pytest.raises(KeyNotFoundError) as caught:
        resolved(lower, [*kernels.passphrases, b"wrong"])
    assert token(b"wrong").sig in str(caught.value)
    assert f"gives {kernels.keys[0].signature}" not in str(caught.value)


def test_the_right_passphrase_with_a_wrong_salt_is_refused(tmp_path: Path) -> None:
    kernels, lower = unpacked("salt", tmp_path)
    with pytest.raises(KeyNotFoundError, match=r"no given key opens the files: they want b11c771c7986482d"):
        resolved(lower, kernels.passphrases)


def test_no_key(lower: Path) -> None:
    with pytest.raises(UsageError, match="no key"):
        resolved(lower, [])


@pytest.mark.parametrize("name", ["two-keys", "three-keys-plain-names"])
def test_of_several_keys_each_opens_the_files(name: str, tmp_path: Path) -> None:
    kernels, lower = unpacked(name, tmp_path)
    sizes = {e["path"]: e["size"] for e in kernels.manifest() if e["type"] == "file"}
    plain = Options(encrypt_names=False) if kernels.fnek else NEW
    for key in kernels.keys:
        assert key.passphrase
        found = resolved(lower, [key.passphrase], plain)
        assert [t.sig for t in found.policy.content] == [key.signature]
        others = [k.signature for k in kernels.keys if k is not key]
        assert all(signature in found.remarks[0] for signature in others)
        with opened(lower, found.policy) as tree:
            path = os.fsdecode(User(tree).list()[0]) if kernels.fnek else next(iter(sizes))
            if not kernels.fnek:
                assert len(User(tree).read(path)) == sizes[path]


def test_several_keys_keep_the_order_of_the_packets(tmp_path: Path) -> None:
    kernels, lower = unpacked("three-keys-plain-names", tmp_path)
    for order in (kernels.passphrases, kernels.passphrases[::-1]):
        found = resolved(lower, order)
        assert [t.sig for t in found.policy.content] == [k.signature for k in kernels.keys]
        assert found.remarks == ()


def test_a_new_file_carries_a_packet_for_each_key(tmp_path: Path) -> None:
    kernels, lower = unpacked("three-keys-plain-names", tmp_path)
    with open_tree(lower, kernels.passphrases) as tree:
        User(tree).create("new", b"hello")
    for passphrase in kernels.passphrases:
        with open_tree(lower, [passphrase]) as tree:
            assert User(tree).read("new") == b"hello"


def test_names_under_another_passphrase_want_both(tmp_path: Path) -> None:
    kernels, lower = unpacked("aes16-fnek-other-passphrase", tmp_path)
    content, names = kernels.passphrases
    assert kernels.fnek
    with pytest.raises(KeyNotFoundError, match=f"names: they want {kernels.fnek.signature}"):
        resolved(lower, [content])
    with pytest.raises(KeyNotFoundError, match=f"files: they want {kernels.keys[0].signature}"):
        resolved(lower, [names])
    for order in ([content, names], [names, content]):
        found = resolved(lower, order).policy
        assert [t.sig for t in found.content] == [kernels.keys[0].signature]
        assert found.names
        assert found.names.token.sig == kernels.fnek.signature


def test_contents_alone_open_if_names_are_to_stay_encrypted(tmp_path: Path) -> None:
    kernels, lower = unpacked("aes16-fnek-other-passphrase", tmp_path)
    with open_tree(lower, kernels.passphrases[:1], Options(encrypt_names=False)) as tree:
        user = User(tree)
        assert user.list() == sorted(map(os.fsencode, os.listdir(lower)))
        file = next(p for p in sorted(lower.rglob("*")) if p.is_file() and p.stat().st_size > 8192)
        assert user.stat(str(file.relative_to(lower))).size == len(user.read(str(file.relative_to(lower))))


def test_one_signature_for_contents_and_names(tmp_path: Path) -> None:
    kernels, lower = unpacked("aes16-fnek-same-sig", tmp_path)
    found = resolved(lower, kernels.passphrases).policy
    assert found.names
    assert found.content[0].sig == found.names.token.sig == kernels.keys[0].signature


@pytest.mark.parametrize(
    "name", ["fn-cipher-differs", "blowfish8", "blowfish40", "blowfish56", "cast58", "cast632", "twofish16"]
)
def test_the_name_cipher_is_proven_from_the_names(name: str, tmp_path: Path) -> None:
    kernels, lower = unpacked(name, tmp_path)
    found = resolved(lower, kernels.passphrases).policy
    assert found.names
    expected = ("twofish", 16) if name == "fn-cipher-differs" else (kernels.cipher, kernels.key_bytes)
    assert (found.names.cipher.spec.name, found.names.cipher.key_bytes) == expected
    assert (found.cipher.spec.name, found.cipher.key_bytes) == (kernels.cipher, kernels.key_bytes)


def test_damaged_names_do_not_hide_the_name_cipher(lower: Path) -> None:
    with opened(lower, policy("twofish", 32)) as tree:
        name = bytes(lower_name(tree, "file"))
    survey = Survey()
    for i in range(10):
        survey.note_name(name[:50] + b"zz%02d" % i + name[54:])
    survey.note_name(name)
    found = resolve(iter([survey]), [candidates(b"test")], NEW).policy
    assert found.names
    assert found.names.cipher == choose("twofish", 32)


def test_a_sample_of_another_key_or_shape_proves_nothing(lower: Path) -> None:
    with opened(lower, policy("blowfish", 24)) as tree:
        User(tree).create("x")
    survey = list(survey_steps(fd := os.open(lower, os.O_RDONLY)))[-1]
    os.close(fd)
    (packet,) = (sample for samples in survey.samples.values() for sample in samples)
    assert prove_name_cipher(packet, token(salt=FNEK_SALT)) == choose("blowfish", 24)
    assert prove_name_cipher(packet, token()) is None
    for code, ciphertext in [(0, bytes(32)), (packet.code, packet.ciphertext[:-1]), (packet.code, bytes(32))]:
        changed = type(packet)(packet.signature, code, ciphertext)
        assert prove_name_cipher(changed, token(salt=FNEK_SALT)) is None


def test_plain_names_are_found_plain(tmp_path: Path) -> None:
    kernels, lower = unpacked("aes16-plain-names", tmp_path)
    assert resolved(lower, kernels.passphrases).policy.names is None


def test_metadata_in_attributes_is_found(tmp_path: Path) -> None:
    kernels, lower = unpacked("aes32-xattr-plain-names", tmp_path)
    found = resolved(lower, kernels.passphrases)
    assert found.policy.xattr_metadata
    assert not found.new
    assert found.policy.cipher == choose("aes", 32)


def test_files_for_public_keys_only(lower: Path) -> None:
    header = Header(0, 1, (PublicKeyPacket(bytes(256), b"ecryptfd"),))
    (lower / "a").write_bytes(header.encode_region())
    with pytest.raises(KeyNotFoundError, match="public keys of ecryptfsd"):
        resolved(lower, [b"test"])


# Options


def test_options_choose_among_the_keys(tmp_path: Path) -> None:
    kernels, lower = unpacked("two-keys", tmp_path)
    signature = bytes.fromhex(kernels.keys[1].signature)
    found = resolved(lower, kernels.passphrases, Options(signatures=(signature,)))
    assert [t.signature for t in found.policy.content] == [signature]
    assert kernels.keys[0].signature in {t.sig for t in found.policy.others}
    only = resolved(lower, kernels.passphrases, Options(signatures=(signature,), mount_auth_tok_only=True))
    assert only.policy.others == ()


def test_options_that_name_absent_keys(tmp_path: Path) -> None:
    kernels, lower = unpacked("aes16-fnek", tmp_path)
    for options in (Options(signatures=(bytes(8),)), Options(fnek_signature=bytes(8))):
        with pytest.raises(KeyNotFoundError, match=r"ecryptfs_(fnek_)?sig=0000000000000000 is not among"):
            resolved(lower, kernels.passphrases, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(cipher="serpent", key_bytes=16), "unknown cipher"),
        (Options(cipher="serpent"), "unknown cipher"),
        (Options(cipher="aes", key_bytes=20), "cannot have a key of 20"),
        (Options(key_bytes=0), "cannot have a key of 0"),
        (Options(key_bytes=8), "cannot have a key of 8"),
        (Options(cipher="aes"), "key size of aes is not given"),
        (Options(cipher="blowfish"), "key size of blowfish is not given"),
        (Options(cipher="twofish", key_bytes=24), "cannot have a key of 24"),
        (Options(fn_cipher="serpent", fn_key_bytes=16), "unknown cipher"),
        (Options(fn_key_bytes=17), "cannot have a key of 17"),
        (Options(fn_cipher="blowfish", fn_key_bytes=64), "cannot have a key of 64"),
    ],
)
def test_ciphers_and_key_sizes_that_cannot_be(lower: Path, options: Options, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolved(lower, [b"test"], options)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("options", "cipher", "names"),
    [
        (NEW, ("aes", 32), ("aes", 32)),
        (Options(key_bytes=16), ("aes", 16), ("aes", 16)),
        (Options(cipher="des3_ede"), ("des3_ede", 24), ("des3_ede", 24)),
        (Options(cipher="blowfish", key_bytes=40), ("blowfish", 40), ("blowfish", 40)),
        (Options(fn_cipher="cast5", fn_key_bytes=8), ("aes", 32), ("cast5", 8)),
        (Options(fn_key_bytes=16), ("aes", 32), ("aes", 16)),
        (Options(encrypt_names=True), ("aes", 32), ("aes", 32)),
        (Options(encrypt_names=False), ("aes", 32), None),
        (Options(xattr_metadata=True), ("aes", 32), ("aes", 32)),
    ],
)
def test_new_trees(
    lower: Path, options: Options, cipher: tuple[str, int], names: tuple[str, int] | None
) -> None:
    found = resolved(lower, [b"test"], options)
    assert found.new
    assert "new tree" in found.remarks[0]
    assert found.policy.cipher == choose(*cipher)
    assert (found.policy.names and found.policy.names.cipher) == (names and choose(*names))
    assert found.policy.content == (token(),)
    if found.policy.names:
        assert found.policy.names.token == token(salt=FNEK_SALT)
    assert found.policy.xattr_metadata == options.xattr_metadata
    with opened(lower, found.policy) as tree:
        User(tree).create("a", b"1")
    again = resolved(lower, [b"test"])
    assert not again.new
    assert again.policy == found.policy.__class__(**{**vars(found.policy), "others": again.policy.others})


def test_a_new_tree_for_two_passphrases(lower: Path) -> None:
    found = resolved(lower, [b"one", b"two"]).policy
    assert found.content == (token(b"one"), token(b"two"))
    assert found.names
    assert found.names.token == token(b"one", FNEK_SALT)


def test_a_new_tree_with_a_named_fnek(lower: Path) -> None:
    found = resolved(lower, [b"test"], Options(fnek_signature=token().signature)).policy
    assert found.names
    assert found.names.token == token()


def test_a_directory_of_plain_files_is_no_new_tree(lower: Path) -> None:
    (lower / "sub").mkdir()
    (lower / "sub" / "notes.txt").write_text("hello")
    with pytest.raises(TreeError, match="1 plain files and no eCryptfs file"):
        resolved(lower, [b"test"])
    for options in (Options(passthrough=True), Options(signatures=(token().signature,))):
        assert resolved(lower, [b"test"], options).new


def test_empty_files_and_directories_are_a_new_tree(lower: Path) -> None:
    (lower / "lost+found").mkdir()
    (lower / "empty").touch()
    os.mkfifo(lower / "fifo")
    (lower / "link").symlink_to("/etc/passwd")
    assert resolved(lower, [b"test"]).new


def test_plain_names_that_are_there_stay_visible(lower: Path) -> None:
    (lower / "lost+found").mkdir()
    assert resolved(lower, [b"test"]).policy.names is not None
    (lower / "directory").mkdir()
    assert resolved(lower, [b"test"]).policy.names is None
    assert resolved(lower, [b"test"], Options(encrypt_names=True)).policy.names is not None


def test_a_tree_of_nothing_but_encrypted_names(lower: Path) -> None:
    with opened(lower, policy()) as tree:
        User(tree).mkdir("directory")
    found = resolved(lower, [b"test"])
    assert not found.new
    assert found.policy.names == policy().names
    with pytest.raises(KeyNotFoundError):
        resolved(lower, [b"wrong"])


def test_the_encrypted_view_is_read_only(tmp_path: Path) -> None:
    kernels, lower = unpacked("aes16-xattr", tmp_path)
    found = resolved(lower, kernels.passphrases, Options(encrypted_view=True)).policy
    assert found.read_only
    assert found.xattr_metadata
    assert resolved(lower, kernels.passphrases, Options(read_only=True)).policy.read_only


# The survey itself


def test_a_survey_stops_when_every_key_has_its_use(lower: Path) -> None:
    with opened(lower, policy(names=False)) as tree:
        User(tree).create("a", b"1")
    for i in range(2600):
        (lower / f"{i:05}").touch()
    fd = os.open(lower, os.O_RDONLY)
    try:
        seen: list[int] = []

        def watched() -> Iterator[Survey]:
            for survey in survey_steps(fd):
                seen.append(survey.entries)
                yield survey

        assert not resolve(watched(), [candidates(b"test")], NEW).new
        assert seen[-1] < 2600
        with pytest.raises(FusecryptError):
            resolve(watched(), [candidates(b"wrong")], NEW)
        assert seen[-1] == 2601
    finally:
        os.close(fd)


def test_a_survey_never_waits_and_follows_nothing(lower: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "plain").write_text("plain")
    os.mkfifo(lower / "fifo")
    os.mknod(lower / "null", 0o600 | 0o020000, os.makedev(1, 3))
    (lower / "link").symlink_to(tmp_path / "outside")
    (lower / "file link").symlink_to(tmp_path / "outside" / "plain")
    fd = os.open(lower, os.O_RDONLY)
    try:
        survey = list(survey_steps(fd))[-1]
    finally:
        os.close(fd)
    assert survey.entries == 4
    assert survey.foreign == survey.unreadable == 0
    assert not survey.is_ecryptfs


def test_a_survey_passes_over_what_vanishes(lower: Path) -> None:
    """An entry that is removed between the listing and the look does not end its directory."""
    with opened(lower, policy(names=False)) as tree:
        for i in range(1200):
            User(tree).create(f"{i:04}", b"1")
    fd = os.open(lower, os.O_RDONLY)
    try:
        steps = survey_steps(fd)
        survey = next(steps)
        left = survey.entries
        names = sorted(os.listdir(lower), key=lambda name: os.stat(lower / name).st_ino)
        order = [entry.name for entry in os.scandir(fd)]
        assert sorted(order) == sorted(names)
        os.unlink(lower / order[left + 5])
        survey = list(steps)[-1]
    finally:
        os.close(fd)
    assert survey.entries == 1200
    assert survey.profiles.total() == 1199


def test_a_hostile_depth_does_not_cost_its_square(lower: Path) -> None:
    top = os.open(lower, os.O_RDONLY)
    fd = os.dup(top)
    try:
        for _ in range(400):
            os.mkdir("d", dir_fd=fd)
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        (survey,) = survey_steps(top)
        assert survey.entries < 300
        assert not survey.unreadable
    finally:
        os.close(fd)
        os.close(top)

"""One secret on all trees, as all that it can be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fusecrypt.keys.slots.passphrase import PassphraseEnrolment
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.token import DEFAULT_SALT, FNEK_SALT
from fusecrypt.keys.volume import Volume
from fusecrypt.native import Secret
from fusecrypt.offline.material import Material, examine_all
from fusecrypt.offline.recover import (
    Attempt,
    Offer,
    attempt,
    label,
    mount_words,
    offers,
    offers_without_secret,
    salts,
)
from fusecrypt.offline.search import search
from fusecrypt.offline.show import pieces
from tests import golden
from tests.offline.support import LOGIN, MOUNT, alice, made_tree, nas_share, whole_home
from tests.tree.support import lower_state, opened, token


def materials(directory: Path) -> list[Material]:
    found, refusals = examine_all(search(directory).material)
    assert refusals == []
    return found


def tried(directory: Path, *secrets: str) -> list[Attempt]:
    """What `fusecrypt recover` tries, on everything below a directory."""
    found = materials(directory)
    known: list[Offer] = list(offers_without_secret(found))
    for each in secrets:
        with Secret.copy(each.encode()) as secret:
            known += offers(secret, found, salts(found))
    return [attempt(tree, known) for tree in search(directory).trees]


def read(each: Attempt, path: bytes) -> bytes:
    assert each.policy is not None
    assert each.policy.read_only
    with opened(each.lower, each.policy) as tree:
        return b"".join(map(bytes, pieces(tree, path)))


@pytest.fixture(params=[alice, whole_home], ids=["private", "whole home"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    lower: Path = request.param(tmp_path)
    return lower


def test_a_home_opens_with_either_passphrase(home: Path, tmp_path: Path) -> None:
    before = lower_state(tmp_path)
    for secret, how in ((LOGIN, "the passphrase wrapped in"), (MOUNT, "the mount passphrase")):
        (each,) = tried(tmp_path, "wrong", secret)
        assert each.lower == home
        assert [offer.how.startswith(how) for offer in each.used] == [True]
        assert read(each, b"notes.txt")
        assert mount_words(home, each.used) == []
        assert label(home) == "alice"
    assert lower_state(tmp_path) == before


def test_what_does_not_open_says_what_it_wants(home: Path, tmp_path: Path) -> None:
    for secrets, why in (([], "no secret was given"), (["wrong"], "no secret fits")):
        (each,) = tried(tmp_path, *secrets)
        assert each.policy is None
        assert each.error is not None
        assert str(each.error).startswith(f"{why}; it wants 707dd06f8443a678")


def test_a_wrapped_passphrase_elsewhere(tmp_path: Path) -> None:
    lower = alice(tmp_path)
    shutil.move(lower.parent / ".ecryptfs" / "wrapped-passphrase", tmp_path / "wrapped-passphrase.saved")
    (each,) = tried(tmp_path, LOGIN)
    assert mount_words(lower, each.used) == ["--wrapped-passphrase", f"{tmp_path}/wrapped-passphrase.saved"]


def test_a_wrapped_passphrase_beside_a_tree_of_another_name(tmp_path: Path) -> None:
    """A mount takes it for the tree's where the signature file says so."""
    lower = alice(tmp_path)
    copy = lower.rename(lower.with_name("copy"))
    (each,) = tried(tmp_path, LOGIN)
    assert mount_words(copy, each.used) == []
    config = lower.parent / ".ecryptfs"
    (config / "Private.sig").unlink()
    (each,) = tried(tmp_path, LOGIN)
    assert mount_words(copy, each.used) == ["--wrapped-passphrase", f"{config}/wrapped-passphrase"]


def test_a_share_opens_with_its_exported_key_alone(tmp_path: Path) -> None:
    lower = nas_share(tmp_path)
    (each,) = tried(tmp_path)
    assert each.lower == lower
    assert read(each, b"picture.jpg") == b"picture.jpg"
    assert mount_words(lower, each.used) == ["--wrapped-passphrase", f"{tmp_path}/photos.key"]
    assert label(lower) == "photos"


def test_several_users_and_one_secret(tmp_path: Path) -> None:
    first, second = alice(tmp_path / "a"), made_tree(tmp_path / "bob", "x")
    for secret, lower in ((LOGIN, first), ("test", second)):
        attempts = tried(tmp_path, secret)
        assert [each.lower for each in attempts if each.policy] == [lower]
    assert all(each.policy for each in tried(tmp_path, LOGIN, "test"))


def test_a_key_slot_file_anywhere(tmp_path: Path) -> None:
    lower = made_tree(tmp_path / "lower", "x")
    volume = Volume.create([(token(), ("content",)), (token(salt=FNEK_SALT), ("names",))])
    with Secret.copy(b"slot passphrase") as secret:
        volume = volume.add(PassphraseEnrolment(secret))
    (tmp_path / "stick").mkdir()
    path = tmp_path / "stick" / "any.keyslots"
    SlotStore(path).create(volume)
    (each,) = tried(tmp_path, "slot passphrase")
    assert read(each, b"x") == b"x"
    assert mount_words(lower, each.used) == ["--keyslots", str(path)]
    path.rename(tmp_path / "lower.keyslots")
    (each,) = tried(tmp_path, "slot passphrase")
    assert mount_words(lower, each.used) == []


def test_a_salt_of_the_users(tmp_path: Path) -> None:
    kernels = golden.tree("salt")
    lower = kernels.unpack(tmp_path / "lower")
    assert tried(tmp_path, "salted")[0].policy is None
    (tmp_path / ".ecryptfsrc").write_text(f"salt={kernels.keys[0].salt.hex()}\n")
    (each,) = tried(tmp_path, "salted")
    assert mount_words(lower, each.used) == ["--salt", kernels.keys[0].salt.hex()]
    assert kernels.keys[0].salt != DEFAULT_SALT


def test_keys_from_several_secrets(tmp_path: Path) -> None:
    kernels = golden.tree("aes16-fnek-other-passphrase")
    kernels.unpack(tmp_path / "lower")
    words = [passphrase.decode() for passphrase in kernels.passphrases]
    assert tried(tmp_path, words[0])[0].policy is None
    (each,) = tried(tmp_path, "wrong", *words)
    assert each.policy is not None
    assert len(each.used) == 2


def test_the_keys_are_wiped(tmp_path: Path) -> None:
    nas_share(tmp_path)
    for offer in offers_without_secret(materials(tmp_path)):
        offer.wipe()
        assert {len(each.key) for each in offer.tokens} == {0}


def test_no_label_leads_elsewhere() -> None:
    assert label(Path("/volume/@..@")) == "@..@"
    assert label(Path("/volume/@.@")) == "@.@"
    assert label(Path("/volume/@@")) == "@@"
    assert label(Path("/volume/@photos@")) == "photos"

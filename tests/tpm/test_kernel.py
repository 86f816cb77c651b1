"""Trusted keys that a kernel made, unsealed on the TPM that it made them with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fusecrypt.errors import SecretError, UsageError
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.tpm.errors import LockedOutError, PolicyChangedError, TPMError, WrongPINError
from fusecrypt.keys.tpm.kernel import KernelAuth, parse_handle, read_auth, seal_master, unseal_master
from fusecrypt.keys.tpm.seal import seal
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.trusted import OWNER, TPMKey
from tests import golden
from tests.tpm.conftest import SoftwareTPM
from tests.unit.keys.secrets import octets, secret

KEYAUTH = bytes.fromhex("707172737475767778797a7b7c7d7e7f80818283")
AUTHS = {
    "trusted": KernelAuth(),
    "trusted-ecc": KernelAuth(),
    "trusted-nonmigratable": KernelAuth(),
    "trusted-pcrlock": KernelAuth(),
    "trusted-sha1": KernelAuth(),
    "trusted-sha384": KernelAuth(),
    "trusted-blobauth": KernelAuth(blobauth=read_auth(secret("secretauth"))),
    "trusted-blobauth-hex": KernelAuth(
        blobauth=read_auth(secret("b2a0f16c6e09a420420d094a2a531bb2da0f3e63"))
    ),
    "trusted-keyauth": KernelAuth(keyauth=secret(KEYAUTH)),
    "trusted-policy-pcr16": KernelAuth(pcrs=("sha256", (16,))),
}
MASTER = secret(bytes(range(100, 140)))


@pytest.fixture
def kernels(make_tpm: Callable[[], SoftwareTPM]) -> SoftwareTPM:
    """The TPM of the golden trees, running."""
    made = make_tpm()
    golden.unpack(golden.DIRECTORY / "tpm" / "swtpm-state.tar.xz", made.directory / "state")
    made.start()
    return made


def _captured(name: str) -> tuple[TPMKey, str, dict[str, str]]:
    """The trusted blob of a golden tree, what it unseals to in hex, and its encrypted blobs by signature."""
    captured = json.loads((golden.DIRECTORY / name / "mount.json").read_text())["captured"]
    blob = next(text for key, text in captured.items() if key.startswith("trusted:"))
    unsealed = next(text for key, text in captured.items() if key.startswith("unsealed:"))
    kind = "encrypted:"
    blobs = {key.removeprefix(kind): text for key, text in captured.items() if key.startswith(kind)}
    return TPMKey.parse_text(blob.encode()), unsealed, blobs


@pytest.mark.parametrize("name", AUTHS)
def test_golden_trusted_keys_open(kernels: SoftwareTPM, name: str) -> None:
    key, unsealed, blobs = _captured(name)
    with kernels.open() as tpm:
        master = unseal_master(tpm, key, AUTHS[name])
        assert octets(master).hex() == unsealed
        for sig, text in blobs.items():
            assert len(EncryptedBlob.parse(text.encode()).token(bytes.fromhex(sig), master).key) == 64
        nothing_is_left(tpm)


def test_a_handmade_trusted_key_opens(kernels: SoftwareTPM) -> None:
    facts = json.loads((golden.DIRECTORY / "trusted-handmade" / "handmade.json").read_text())
    with kernels.open() as tpm:
        master = unseal_master(tpm, TPMKey.parse_text(facts["trusted_blob"].encode()), KernelAuth())
    assert octets(master).hex() == facts["master_hex"]


def test_a_policy_of_other_firmware_names_its_pcr(kernels: SoftwareTPM) -> None:
    key, _, _ = _captured("trusted-policy-pcr7")
    with kernels.open() as tpm:
        with pytest.raises(PolicyChangedError, match="PCR 7 is now 0000") as caught:
            unseal_master(tpm, key, KernelAuth(pcrs=("sha256", (7,))))
        assert "other PCRs" in caught.value.hint
        with pytest.raises(PolicyChangedError) as caught:
            unseal_master(tpm, key, KernelAuth())
        assert "--master-pcrs" in caught.value.hint
        nothing_is_left(tpm)


def test_wrong_auth_values_are_told(kernels: SoftwareTPM) -> None:
    key, _, _ = _captured("trusted-blobauth")
    with kernels.open() as tpm:
        for left, auth in ((2, KernelAuth()), (1, KernelAuth(blobauth=secret("secretautx")))):
            with pytest.raises(WrongPINError, match="the trusted key's auth value is wrong") as caught:
                unseal_master(tpm, key, auth)
            assert caught.value.hint == f"give it: --blobauth-file FILE; attempts left: {left}"
        key, _, _ = _captured("trusted-keyauth")
        with pytest.raises(TPMError, match="the TPM's key at 0x81000003 has another auth value") as refused:
            unseal_master(tpm, key, KernelAuth())
        assert "--keyauth-file" in refused.value.hint
        # The third wrong one locks it, and keys that the kernel sealed without an auth value too.
        with pytest.raises(LockedOutError) as locked:
            unseal_master(tpm, _captured("trusted")[0], KernelAuth())
        assert "an attempt is given back after 1000 s" in locked.value.hint
        nothing_is_left(tpm)


def test_another_parent_is_told(kernels: SoftwareTPM) -> None:
    key, _, _ = _captured("trusted")
    with kernels.open() as tpm:
        for handle, said in (
            (0x81000002, "was not sealed under this TPM's key at 0x81000002"),
            (0x8100000F, "this TPM has no key at 0x8100000f"),
        ):
            with pytest.raises(TPMError, match=said) as caught:
                unseal_master(tpm, key, KernelAuth(handle=handle))
            assert "--keyhandle" in caught.value.hint
        nothing_is_left(tpm)


@pytest.mark.parametrize("auth", [None, secret(bytes(range(20)))])
def test_our_blobs_have_the_kernels_form(tpm: TPM, auth: Any) -> None:
    key = seal_master(tpm, MASTER, auth)
    assert (key.parent, key.policy, key.description) == (0x81000001, (), "")
    assert (key.empty_auth is True) == (auth is None)
    assert len(key.encode()) <= 512
    assert unseal_master(tpm, TPMKey.parse(key.encode()), KernelAuth(blobauth=auth)) == MASTER
    nothing_is_left(tpm)


def test_the_form_before_linux_5_13(tpm: TPM) -> None:
    parent = tpm.storage_key()
    for flag in (0, 1):
        key = seal(tpm, parent, secret(octets(MASTER) + bytes([flag])))
        old = TPMKey.parse(replace(key, parent=None).encode())
        assert unseal_master(tpm, old, KernelAuth(handle=parse_handle("81000001"))) == MASTER
        with pytest.raises(UsageError, match="parent"):
            unseal_master(tpm, old, KernelAuth())
    old = TPMKey.parse(replace(seal(tpm, parent, MASTER), parent=None).encode())
    with pytest.raises(KeyFileError):
        unseal_master(tpm, old, KernelAuth(handle=0x81000001))


def test_a_parent_in_the_owner_hierarchy(tpm: TPM) -> None:
    key = replace(seal(tpm, tpm.storage_key(), MASTER), parent=OWNER)
    assert unseal_master(tpm, key, KernelAuth()) == MASTER
    nothing_is_left(tpm)


def test_octets_that_are_no_trusted_key_are_refused(tpm: TPM) -> None:
    key = seal(tpm, tpm.storage_key(), secret(bytes(31)))
    with pytest.raises(KeyFileError):
        unseal_master(tpm, key, KernelAuth())


def test_auth_values_as_the_kernel_reads_them() -> None:
    assert octets(read_auth(secret("7071727374757677787980818283848586878889"))).hex().startswith("7071")
    assert octets(read_auth(secret("00FFaB" + "0" * 34)))[:3] == b"\x00\xff\xab"
    assert octets(read_auth(secret("x" * 20))) == b"x" * 20
    for text in ("", "x" * 21, "g" * 40, "0" * 39):
        with pytest.raises(SecretError):
            read_auth(secret(text))
    with pytest.raises(UsageError):
        parse_handle("0x80000000")


def nothing_is_left(tpm: TPM) -> None:
    """No transient object and no session stays in the TPM."""
    for first in (0x80000000, 0x02000000, 0x03000000):
        _, answer = tpm.call("get_capability", tpm.lib.TPM2_CAP.HANDLES, first, 32)
        assert int(answer.data.handles.count) == 0, hex(first)

"""Policy digests as a TPM computes them, and signed policies."""

from __future__ import annotations

import json

import pytest

from fusecrypt.errors import UsageError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.tpm import policy
from fusecrypt.keys.tpm.policy import Approval, PCRPolicy, combined

ZERO = bytes(32)
SIGNER = bytes.fromhex("000b2fe46e5ad4b96eee36ebbde3cc47c04b275da03b30e57fdbf61efa1ad3cb74b0")


def _pcrs(*numbers: int) -> PCRPolicy:
    return PCRPolicy("sha256", dict.fromkeys(numbers, ZERO))


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        (
            combined(None, b"", _pcrs(7), False),
            "8b5682d81b29435d08d79278150611dc7e5923b2fefcce684a09577b40130a8b",
        ),
        (
            combined(None, b"", _pcrs(11, 7), False),
            "384378caeddc9690b2ac9589827a756a5c46c8b33178b2fe468c80531b97a53e",
        ),
        (
            combined(None, b"", _pcrs(23), False),
            "3c87a4b3fb85ebeea58c5fb36ac22d3f280cec27a9f6dd0fa23be9ce560deec8",
        ),
        (
            combined(None, b"", _pcrs(7), True),
            "b8db92fae7c1e0c588e7352d2fc10f27c7b384e32f706a520cb10bf7ffee8970",
        ),
        (
            policy.after_auth_value(policy.START),
            "8fcd2169ab92694e0c633f1ab772842b8241bbc20288981fc7ac1eddc1fddb0e",
        ),
        (
            combined(SIGNER, b"", None, False),
            "dd43c9f75fc5918c788e3d8d057c35bec14fe23147a6d48532bfc52b42b77ebd",
        ),
        (
            combined(SIGNER, b"abc", None, False),
            "62b9d83fcc8e2afcbbccd4f2ab65ab80c215122a82f4b2dcaaaedeeb784d263a",
        ),
        (
            combined(SIGNER, b"", _pcrs(7), True),
            "d8585766707c9262701c3613149f3bb412aea948df80287cc72c46f3c63199f5",
        ),
        (combined(None, b"", None, True), ""),
    ],
)
def test_digests(digest: bytes, expected: str) -> None:
    assert digest.hex() == expected


def test_selection() -> None:
    assert policy.selection("sha256", [7]).hex() == "00000001000b03800000"
    assert policy.selection("sha1", [0, 23]).hex() == "00000001000403010080"


def test_pcrs_of_options() -> None:
    assert policy.parse_pcrs("11+7") == ("sha256", (7, 11))
    assert policy.parse_pcrs("sha384:0") == ("sha384", (0,))
    for text in ("", "7,11", "24", "-1", "md5:7", "sha256:", "7++8", "\u0667"):
        with pytest.raises(UsageError):
            policy.parse_pcrs(text)


def test_changes_name_the_pcr() -> None:
    assert policy.changed({7: ZERO, 8: ZERO}, {7: ZERO, 8: ZERO}) == ""
    assert policy.changed({7: ZERO, 8: ZERO}, {7: b"\1" * 32, 8: ZERO}).startswith("PCR 7: expected 00")
    assert policy.unset({1: ZERO, 2: b"\xff" * 32, 3: b"\1" * 32}) == (1, 2)


def test_approvals_are_chosen_by_their_pcrs() -> None:
    entry = {"pcrs": [11], "pkfp": "00" * 32, "pol": "ab" * 32, "sig": "AAAAAAAAAAA="}
    data = json.dumps({"sha256": [{**entry, "pcrs": [7, 11]}, entry], "sha1": [entry]}).encode()
    assert policy.parse_approvals(data, "sha256", [11]) == [Approval(b"\xab" * 32, bytes(8))]
    assert policy.parse_approvals(data, "sha384", [11]) == []
    for spoiled in (b"", b'{"sha256":{}}', b'{"sha256":[1]}', data.replace(b"abab", b"xxab")):
        with pytest.raises(KeyFileError):
            policy.parse_approvals(spoiled, "sha256", [11])

"""What names may do to a terminal, and to a script."""

from __future__ import annotations

import json
import os

import pytest

from fusecrypt.cli.output import Failures, json_path, printable
from fusecrypt.errors import DamagedError, KeyNotFoundError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain name", "plain name"),
        ("Größe 🎈".encode(), "Größe 🎈"),
        (b"two\nlines\r\t", r"two\nlines\r\t"),
        (b"\x1b[2Jgone\x07\x7f", r"\x1b[2Jgone\x07\x7f"),
        ("a\u202egnp.exe".encode(), r"a\u202egnp.exe"),
        ("\x9bCSI \U000e0001".encode(), r"\u009bCSI \U000e0001"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"back\\slash", r"back\\slash"),
        (b"", ""),
    ],
)
def test_names_are_one_harmless_line(name: bytes, shown: str) -> None:
    assert printable(name) == shown
    assert shown.isprintable()


def test_different_names_look_different() -> None:
    names = [b"\n", b"\\n", b"\\\\n", b"\x1b", b"\\x1b", b"\xff", b"\\xff", "\u202e".encode(), b"\\u202e"]
    assert len(set(map(printable, names))) == len(names)


def test_json_keeps_every_octet() -> None:
    for name in (b"plain", "ß".encode(), b"\xff\n\x1b"):
        back = json.loads(json.dumps(json_path("path", name)))
        assert os.fsencode(back["path"]) == name
        assert back.get("path_hex", name.hex()) == name.hex()
        assert ("path_hex" in back) == (b"\xff" in name)


def test_failures_go_on_and_the_worst_counts(capsys: pytest.CaptureFixture[str]) -> None:
    failures = Failures()
    with failures.of("good"):
        pass
    assert failures.status == 0
    for error in (
        FileNotFoundError(2, "No such file"),
        DamagedError("cut", "restore it"),
        KeyNotFoundError("no key"),
    ):
        with failures.of(b"bad\x1b"):
            raise error
    assert failures.status == 4
    assert capsys.readouterr().err.splitlines() == [
        r"fusecrypt: bad\x1b: No such file (check the path)",
        r"fusecrypt: bad\x1b: cut (restore it)",
        r"fusecrypt: bad\x1b: no key",
    ]
    with pytest.raises(BrokenPipeError), failures.of("pipe"):
        raise BrokenPipeError

"""On a booted system: what comes with somebody's login and goes with the logout."""

from __future__ import annotations

import re

import pytest

from tests.docs.reader import the_block
from tests.package.household import HELLO, LOGIN, SECRET, login, logout, mounted, typed, wait
from tests.package.machine import Machine

pytestmark = pytest.mark.full

WRAPPED = "/home/.ecryptfs/me/.ecryptfs/wrapped-passphrase"
NEW_LOGIN = "new login password"


def test_a_unit_of_a_user(machine: Machine) -> None:
    """Enabled in one session, there in the next one, and gone with each."""
    machine.output(f"""
        set -e
        cd /home/her
        mkdir -p .config/fusecrypt
        echo "{SECRET}" > pass
        printf 'LOWER=%s\\nMOUNTPOINT=%s\\nOPTIONS=%s\\n' \\
            /home/her/.Private /home/her/clear '--passfile /home/her/pass' > .config/fusecrypt/private.conf
        chown -R her:her pass .config
    """)
    for command in (
        "systemctl --user enable --now fusecrypt@private",
        "systemctl --user is-active default.target",
    ):
        login(machine, "her", "her password")
        typed(machine, command)
        wait(machine, "findmnt -n -t fuse.fusecrypt /home/her/clear")
        assert HELLO in typed(machine, "cat clear/hello.txt")
        logout(machine, "her")
        assert not mounted(machine, "/home/her/clear")
    said = machine.output("journalctl -b _UID=1001 -o cat")
    assert not re.search(r"fusecrypt@private.*(fail|kill)", said, re.IGNORECASE), said


@pytest.fixture(scope="module")
def recipe(machine: Machine) -> None:
    """The recipe of docs/old-home.md."""
    volume, note = (the_block("old-home.md", kind) for kind in ("xml", "sh login"))
    file = "/etc/security/pam_mount.conf.xml"
    machine.output(f"cp -p {file} /root && cat > /root/volume << 'END'\n{volume}END")
    machine.output(f"sed -i '/Volume definitions/r /root/volume' {file}\n{note}")


def test_an_old_home(recipe: None, machine: Machine) -> None:
    login(machine, "me", LOGIN)
    shown = typed(machine, "cat ~/hello.txt; echo mine > ~/mine; findmnt -n -o FSTYPE ~")
    assert HELLO in shown
    assert "fuse.fusecrypt" in shown
    logout(machine)
    wait(machine, "! findmnt -n -t fuse.fusecrypt /home/me")


def test_the_password_trap(recipe: None, machine: Machine) -> None:
    """After root set another password the home stays closed; what its owner finds there is the way out."""
    machine.output(f"echo 'me:{NEW_LOGIN}' | chpasswd")
    login(machine, "me", NEW_LOGIN)
    shown = typed(machine, "ls ~; cat ~/READ-ME")
    assert "hello.txt" not in shown
    way_out = f"fusecrypt key wrap {WRAPPED}"
    assert f"    {way_out}\r\n" in shown
    assert f"`{way_out}`" in machine.output("journalctl -b -g fusecrypt -o cat")
    machine.terminal.send(f"{way_out}\n")
    answers = {"present": LOGIN, "new": NEW_LOGIN, "again": NEW_LOGIN}
    for word, secret in answers.items():
        machine.terminal.expect(f"{word}.*: ")
        machine.terminal.send(f"{secret}\n")
    machine.terminal.expect(r"\$ ")
    logout(machine)
    login(machine, "me", NEW_LOGIN)
    assert "mine" in typed(machine, "cat ~/mine; rm ~/mine")
    logout(machine)
    wait(machine, "! findmnt -n -t fuse.fusecrypt /home/me")

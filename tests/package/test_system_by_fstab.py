"""On a booted system: lines of fstab, at boot, at the first look, and as they were of old."""

from __future__ import annotations

import pytest

from tests.package.household import HELLO, mounted, state, wait
from tests.package.machine import Machine

pytestmark = pytest.mark.full


def test_the_system_is_well(machine: Machine) -> None:
    shown = machine.run("systemctl is-system-running").stdout
    assert shown == "running\n", machine.output("systemctl --failed")


def test_at_boot(machine: Machine) -> None:
    """Before anybody logs in, and there for all."""
    assert state(machine, "srv-boot.mount", "ActiveState", "Result") == ["active", "success"]
    found = machine.output("findmnt -rn -o SOURCE,FSTYPE /srv/boot")
    assert found == "/srv/lower/boot fuse.fusecrypt"
    assert machine.output("setpriv --reuid=her --clear-groups cat /srv/boot/hello.txt").startswith(HELLO)


def test_by_automount(machine: Machine) -> None:
    """Mounted at the first look, and by itself gone when it was idle; then the same again."""
    for _ in range(2):
        assert not mounted(machine, "/srv/auto")
        assert machine.output("cat /srv/auto/hello.txt").startswith(HELLO)
        assert state(machine, "srv-auto.mount", "ActiveState") == ["active"]
        wait(machine, "[ $(systemctl is-active srv-auto.mount) = inactive ]")


def test_an_old_line_with_the_new_type(machine: Machine) -> None:
    machine.output("mount /srv/old")
    assert machine.output("cat /srv/old/hello.txt").startswith(HELLO)
    assert "health    good" in machine.output("fusecrypt status /srv/old")
    machine.output("umount /srv/old")


def test_auto_unmount(machine: Machine) -> None:
    """The mount goes with its daemon."""
    machine.output("mount /srv/old -o auto_unmount && pkill -KILL -f '^/usr/lib/fusecrypt.*daemon' -n")
    wait(machine, "! findmnt -n /srv/old")

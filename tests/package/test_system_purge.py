"""On a booted system, at the end of all its tests: the package is purged while its mounts stand."""

from __future__ import annotations

import pytest

from tests.package.household import UNCONFIGURE, mounted, state
from tests.package.machine import Machine
from tests.package.roots import LISTING

pytestmark = pytest.mark.full


def test_nothing_is_left(machine: Machine) -> None:
    """Neither a mount, nor a process, nor a unit that is enabled, nor a file."""
    assert mounted(machine, "/srv/boot")
    assert mounted(machine, "/srv/unit")
    machine.output("apt-get -q -y purge fusecrypt")
    assert machine.run("findmnt -n -t fuse.fusecrypt").stdout == ""
    assert machine.run("pgrep -f usr/lib/fusecrypt").stdout == ""
    assert state(machine, "fusecrypt@unit", "LoadState", "ActiveState") == ["not-found", "inactive"]
    machine.output(UNCONFIGURE)
    assert machine.run(f"cd / && {LISTING} | diff /root/before -").stdout == ""

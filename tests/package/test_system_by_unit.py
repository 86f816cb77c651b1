"""On a booted system: fusecrypt@.service, how it gets its secret, how it ends, what it may do."""

from __future__ import annotations

import errno
import re

import pytest

from tests.package.household import (
    HELLO,
    SECRET,
    drop_in,
    login,
    logout,
    mounted,
    state,
    undo_drop_in,
    wait,
)
from tests.package.machine import Machine

pytestmark = pytest.mark.full

UNIT = "fusecrypt@unit"
MAX_EXPOSURE = 6.2
"""What `systemd-analyze security` may say, of ten: a file system can give up no more."""


def test_with_a_credential(machine: Machine) -> None:
    """Enabled before the reboot; ready means that it is mounted; told to stop it leaves nothing."""
    assert state(machine, UNIT, "ActiveState", "SubState") == ["active", "running"]
    assert machine.output("cat /srv/unit/hello.txt").startswith(HELLO)
    machine.output(f"systemctl stop {UNIT}")
    assert not mounted(machine, "/srv/unit")
    assert state(machine, UNIT, "ActiveState", "Result") == ["inactive", "success"]
    script = f"systemctl start {UNIT} && cat /srv/unit/hello.txt && echo written > /srv/unit/new"
    assert machine.output(script).startswith(HELLO)
    machine.output(f"systemctl restart {UNIT}")
    assert machine.output("cat /srv/unit/new && rm /srv/unit/new") == "written"


def test_the_shutdown_was_clean(machine: Machine) -> None:
    """What the journal has of the boot before."""
    said = machine.output(f"journalctl -b -1 -u {UNIT} -u srv-boot.mount -o cat")
    assert "Deactivated successfully" in said
    assert not re.search(r"fail|error|timed out|killed", said, re.IGNORECASE), said


def test_with_a_sealed_credential(machine: Machine) -> None:
    """Encrypted for this machine; a drop-in says so."""
    sealed = "/etc/credstore.encrypted/fusecrypt.sealed"
    words = f"--with-key=host --name=fusecrypt.passphrase - {sealed}"
    machine.output(f"printf '{SECRET}' | systemd-creds encrypt {words} && ! grep -q '{SECRET}' {sealed}")
    loaded = "LoadCredentialEncrypted=fusecrypt.passphrase:fusecrypt.%i"
    drop_in(machine, "fusecrypt@sealed", "LoadCredential=", loaded)
    machine.output("systemctl start fusecrypt@sealed")
    assert machine.output("cat /srv/sealed/hello.txt").startswith(HELLO)
    machine.output("systemctl stop fusecrypt@sealed")
    undo_drop_in(machine, "fusecrypt@sealed")


def test_asked_for_on_the_console(machine: Machine) -> None:
    """By systemd's own agent; neither a unit nor a line of fstab is ready until it was answered."""
    asking = {"fusecrypt@asked": "/srv/asked", "srv-ask.mount": "/srv/ask"}
    login(machine, "root", "root", r"# ")
    for unit, place in asking.items():
        machine.output(f"systemctl start --no-block {unit}")
        wait(machine, "ls /run/systemd/ask-password/ask.*")
        assert state(machine, unit, "ActiveState") == ["activating"]
        machine.terminal.send("systemd-tty-ask-password-agent\n")
        machine.terminal.expect(r"mount passphrase \(fusecrypt\) .*TAB")
        machine.terminal.send(f"{SECRET}\n")
        wait(machine, f"systemctl is-active {unit}")
        assert machine.output(f"cat {place}/hello.txt").startswith(HELLO)
        machine.output(f"systemctl stop {unit}")
    logout(machine)


def test_a_daemon_that_hangs(machine: Machine) -> None:
    """With a watchdog, as a drop-in sets one, it is started again; its mount is not in the way."""
    drop_in(machine, UNIT, "WatchdogSec=15s", "Restart=on-watchdog")
    machine.output(f"systemctl restart {UNIT}; sleep 20")
    restarts, pid = state(machine, UNIT, "NRestarts", "MainPID")
    assert restarts == "0"
    machine.output(f"kill -STOP {pid}")
    wait(machine, f"[ $(systemctl show {UNIT} -p NRestarts --value) = 1 ] && systemctl is-active {UNIT}")
    assert machine.output("cat /srv/unit/hello.txt").startswith(HELLO)
    assert state(machine, UNIT, "MainPID") != [pid]
    undo_drop_in(machine, UNIT)


def test_a_daemon_that_is_killed(machine: Machine) -> None:
    """The mount goes with the daemon, and the unit starts again."""
    machine.output(f"systemctl kill -s KILL --kill-who=main {UNIT}")
    wait(machine, f"[ $(systemctl is-active {UNIT}) = failed ]")
    assert not mounted(machine, "/srv/unit")
    machine.output(f"systemctl start {UNIT}")
    assert machine.output("cat /srv/unit/hello.txt").startswith(HELLO)


FORBIDDEN = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, action):
    try:
        failed = action() == -1 and ctypes.get_errno()
    except OSError as error:
        failed = error.errno
    print(name, int(failed))
attempt("personality", lambda: libc.personality(8))
attempt("realtime", lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)))
attempt("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
attempt("memory", lambda: os.close(os.open("/dev/mem", os.O_RDONLY)))
attempt("hostname", lambda: libc.sethostname(b"machine", 7))
attempt("accounting", lambda: libc.acct(None))
attempt("namespace", lambda: libc.unshare(0x10000000))
"""


def test_the_hardening_is_in_force(machine: Machine) -> None:
    """What the daemon has; what a process in its place is refused and root elsewhere is not."""
    machine.output(f"cat > /root/forbidden.py << 'END'{FORBIDDEN}END")
    attempt = "/usr/bin/python3 /root/forbidden.py"
    outside = dict(line.split() for line in machine.output(attempt).splitlines())
    assert set(outside.values()) == {"0"}
    drop_in(machine, UNIT, f"ExecStartPre={attempt}", "StandardOutput=append:/root/refused")
    machine.output(f"systemctl restart {UNIT}")
    inside = dict(line.split() for line in machine.output("cat /root/refused").splitlines())
    undo_drop_in(machine, UNIT)
    assert inside == dict.fromkeys(outside, str(errno.EPERM))
    (pid,) = state(machine, UNIT, "MainPID")
    lines = machine.output(f"cat /proc/{pid}/status").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    assert (status["Seccomp"].strip(), status["NoNewPrivs"].strip()) == ("2", "1")
    held = int(status["CapBnd"], 16)
    assert not any(held >> forbidden & 1 for forbidden in (12, 16, 17, 22)), (
        "NET_ADMIN, SYS_MODULE, RAWIO, BOOT"
    )
    assert int(status["CapEff"], 16) == held
    said = machine.output(f"systemd-analyze security --no-pager {UNIT} | tail -n 1")
    assert float(re.findall(r"[0-9.]+", said.partition(":")[2])[0]) <= MAX_EXPOSURE

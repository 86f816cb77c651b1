"""The system that the tests boot: its people and trees, its configuration, and looks at it from outside."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests import golden
from tests.mount.support import run
from tests.package.machine import Machine
from tests.package.roots import Root

HELLO = "hello from aes32"
"""What all trees show in hello.txt."""
SECRET = "cipher aes"
LOGIN = "old login password"
TERMINAL = "ttyS2"

_TREE = golden.tree("aes32")
_KEYS = "ecryptfs_sig=9e91b2100d622d7a,ecryptfs_fnek_sig=984e8b127932a987"
_OLD = f"key=passphrase:passphrase_passwd_file=/etc/fusecrypt/passwd,{_KEYS},ecryptfs_cipher=aes"
_FSTAB = f"""
/srv/lower/boot /srv/boot fuse.fusecrypt passfile=/etc/fusecrypt/pass 0 0
/srv/lower/auto /srv/auto fuse.fusecrypt noauto,x-systemd.automount,idle=10s,passfile=/etc/fusecrypt/pass 0 0
/srv/lower/old /srv/old fuse.fusecrypt noauto,{_OLD},ecryptfs_key_bytes=32,ecryptfs_passthrough=n 0 0
/srv/lower/ask /srv/ask fuse.fusecrypt noauto 0 0
"""
_UNITS = ("unit", "sealed", "asked")
_NAMES = ("boot", "auto", "old", "ask", *_UNITS)

CONFIGURE = f"""
set -e
mkdir /etc/fusecrypt
umask 077
echo "{SECRET}" > /etc/fusecrypt/pass
echo "passphrase_passwd={SECRET}" > /etc/fusecrypt/passwd
cp -p /etc/fstab /root/fstab
cat >> /etc/fstab << END{_FSTAB}END
for name in {" ".join(_UNITS)}; do
    printf 'LOWER=/srv/lower/%s\\nMOUNTPOINT=/srv/%s\\n' $name $name > /etc/fusecrypt/$name.conf
done
echo "{SECRET}" > /etc/credstore/fusecrypt.unit
systemctl daemon-reload
systemctl enable --now fusecrypt@unit
"""
UNCONFIGURE = """
set -e
mv /root/fstab /etc/fstab
rm -r /etc/fusecrypt /etc/credstore/fusecrypt.unit /etc/credstore.encrypted/fusecrypt.sealed
rm -r /home/her/pass /home/her/.config /home/me/READ-ME
systemctl daemon-reload
systemctl stop srv-auto.automount
"""


def furnish(root: Root, package: Path) -> None:
    """People, their trees, and the package, which is not installed yet."""
    root.satisfy(package)
    shutil.copy(package, root.path / "root/fusecrypt.deb")
    for name in _NAMES:
        _TREE.unpack(root.path / "srv/lower" / name)
        (root.path / "srv" / name).mkdir()
    for name in ("credstore", "credstore.encrypted"):
        (root.path / "etc" / name).mkdir(mode=0o700, exist_ok=True)
    for number, name in enumerate(("me", "her"), 1000):
        root.run("useradd", "--create-home", "--shell", "/bin/sh", "--uid", str(number), name)
    root.run("sh", "-c", f"printf 'root:root\\nme:{LOGIN}\\nher:her password\\n' | chpasswd")
    _old_home(root.path / "home/.ecryptfs/me")
    root.run("chown", "-R", "me:me", "/home/.ecryptfs/me")
    _TREE.unpack(root.path / "home/her/.Private")
    (root.path / "home/her/clear").mkdir()
    root.run("chown", "-R", "her:her", "/home/her")


def _old_home(place: Path) -> None:
    """A whole encrypted home as Ubuntu's installer made it."""
    (place / ".ecryptfs").mkdir(parents=True)
    _TREE.unpack(place / ".Private")
    (place / ".ecryptfs/Private.mnt").write_text("/home/me")
    (place / ".ecryptfs/Private.sig").write_text("9e91b2100d622d7a\n984e8b127932a987\n")
    wrapped = place / ".ecryptfs/wrapped-passphrase"
    mount, login = place / "mount", place / "login"
    mount.write_text(f"{SECRET}\n")
    login.write_text(f"{LOGIN}\n")
    run("key", "wrap", wrapped, "--passfile", mount, "--new-passfile", login)
    mount.unlink()
    login.unlink()


def state(machine: Machine, unit: str, *names: str) -> list[str]:
    """Properties of a unit."""
    shown = machine.output(f"systemctl show {unit} -p {','.join(names)}")
    found = dict(line.split("=", 1) for line in shown.splitlines())
    return [found[name] for name in names]


def mounted(machine: Machine, path: str) -> bool:
    return machine.run(f"findmnt -n -t fuse.fusecrypt {path}").status == 0


def wait(machine: Machine, condition: str) -> None:
    """Until a shell command succeeds. HarnessError if it does not in some minutes."""
    machine.output(f"for i in $(seq 300); do {condition} && exit; sleep 1; done; exit 1")


def drop_in(machine: Machine, unit: str, *lines: str) -> None:
    """Lines for a unit's section [Service], until it is undone."""
    directory = f"/run/systemd/system/{unit}.service.d"
    text = "\n".join(("[Service]", *lines))
    machine.output(f"mkdir -p {directory} && cat > {directory}/test.conf << 'END'\n{text}\nEND\n{RELOAD}")


def undo_drop_in(machine: Machine, unit: str) -> None:
    machine.output(f"rm -r /run/systemd/system/{unit}.service.d && {RELOAD}")


RELOAD = "systemctl daemon-reload"


def login(machine: Machine, user: str, password: str, prompt: str = r"^\$ ") -> None:
    """At the terminal."""
    machine.terminal.expect(r"machine login: ")
    machine.terminal.send(f"{user}\n")
    machine.terminal.expect(r"Password: ")
    machine.terminal.send(f"{password}\n")
    machine.terminal.expect(prompt)


def typed(machine: Machine, command: str) -> str:
    """What a command at the terminal shows."""
    machine.terminal.send(f"{command}; echo 'en''d'\n")
    machine.terminal.expect(r"\n")
    return machine.terminal.expect(r"([\s\S]*?)end\r?\n")[1]


def logout(machine: Machine, user: str = "") -> None:
    """And wait for the end of the user's own systemd."""
    machine.terminal.send("exit\n")
    if user:
        wait(machine, f"! systemctl -q is-active user@$(id -u {user})")

"""What docs/comparison.md says of rivals in user space, tried with those of Debian.

A claim is the first words of a cell: yes, no, or a number.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import watch
from tests.docs.reader import DOCS
from tests.mount.support import PATIENCE

pytestmark = pytest.mark.full

HEAD, _, *ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in (DOCS / "comparison.md").read_text().splitlines()
    if line.startswith("|")
]
TABLE = {row[0]: dict(zip(HEAD, row, strict=True)) for row in ROWS}
SIZE = 65536


@dataclass(frozen=True)
class Rival:
    """Commands, run where ``low`` and ``up`` are; the password is ``pw``, also in ``pass``."""

    column: str
    mount: str
    create: str = "true"
    format: str = ""
    """Which of its formats, as cells name it."""

    def claim(self, row: str) -> str:
        """What the table says of it, or of this format, and that it was tried."""
        cell = TABLE[row][self.column]
        assert "ᵗ" in cell
        return next((part for part in cell.split(", ") if self.format and self.format in part), cell)


RIVALS = {
    "gocryptfs": Rival(
        "gocryptfs",
        "gocryptfs -q -nosyslog -passfile pass low up",
        "gocryptfs -q -init -passfile pass low",
    ),
    "securefs-lite": Rival(
        "securefs",
        "securefs mount -b --pass pw low up",
        "securefs create --format 4 -r 1 --pass pw low",
        "in its lite format",
    ),
    "securefs-full": Rival(
        "securefs",
        "securefs mount -b --pass pw low up",
        "securefs create --format 2 -r 1 --pass pw low",
        "in its full one",
    ),
    "CryFS": Rival("CryFS", "cryfs low up"),
}


class Vault:
    """A directory that a rival has encrypted; ``lower`` is what lies below."""

    def __init__(self, rival: Rival, place: Path) -> None:
        self.rival = rival
        self.place = place
        self.lower, self.upper = place / "low", place / "up"
        self.lower.mkdir()
        self.upper.mkdir()
        (place / "pass").write_text("pw\n")
        self.run(rival.create)

    def run(self, command: str, status: int | None = 0, typed: str = "pw\n", user: int | None = None) -> None:
        """Run a command to its end, or until it goes on in the background."""
        quiet = {"CRYFS_FRONTEND": "noninteractive", "CRYFS_NO_UPDATE_CHECK": "true", "HOME": str(self.place)}
        with (self.place / "said").open("w+") as said:  # what stays in the background would keep a pipe open
            done = subprocess.run(
                command.split(), cwd=self.place, env={**os.environ, **quiet}, input=typed, stdout=said,
                stderr=said, text=True, check=False, timeout=90,
                user=user, group=user, extra_groups=None if user is None else [],
            )  # fmt: skip
            said.seek(0)
            assert status is None or done.returncode == status, said.read()

    @contextmanager
    def mounted(self, command: str = "", user: int | None = None) -> Iterator[Path]:
        """Its files; everything is stored afterwards. It may end by itself, where it was betrayed."""
        self.run(command or self.rival.mount, None, user=user)
        deadline = time.monotonic() + PATIENCE
        while not self.is_mounted() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield self.upper
        while self.is_mounted():
            subprocess.run(["fusermount3", "-u", self.upper], capture_output=True, check=False)
            time.sleep(0.05)
        while subprocess.run(
            ["pgrep", "-f", f"{self.rival.mount}$"], capture_output=True, check=False
        ).stdout:
            time.sleep(0.05)

    def is_mounted(self) -> bool:
        """Without a look at it, which is its owner's alone."""
        return f" {self.upper} fuse." in Path("/proc/self/mounts").read_text()

    def write(self, **files: bytes) -> None:
        with self.mounted() as up:
            for name, data in files.items():
                (up / name).write_bytes(data)

    def read(self, name: str) -> bytes | None:
        """None if it is noticed that something is wrong."""
        with self.mounted() as up:
            try:
                return (up / name).read_bytes()
            except OSError:
                return None

    def files(self) -> dict[Path, bytes]:
        """What lies below."""
        return {path: path.read_bytes() for path in self.lower.rglob("*") if path.is_file()}


@pytest.fixture(params=RIVALS)
def vault(request: pytest.FixtureRequest, open_tmp_path: Path) -> Vault:
    watch.MOUNT_ROOTS.append(open_tmp_path)
    return Vault(RIVALS[request.param], open_tmp_path)


def yes(truth: bool) -> str:
    return "yes" if truth else "no"


def test_changed_contents(vault: Vault) -> None:
    """One bit, wherever it is, in what was written last."""
    before = vault.files()
    vault.write(file=os.urandom(SIZE))
    written = [path for path, data in vault.files().items() if before.get(path) != data]
    path = max(written, key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert vault.rival.claim("notices changed contents").startswith(yes(vault.read("file") is None))


def test_an_old_state(vault: Vault) -> None:
    old = os.urandom(SIZE)
    vault.write(file=old)
    before = vault.files()
    vault.write(file=os.urandom(SIZE))
    for path in vault.files().keys() - before.keys():
        path.unlink()
    for path, data in before.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    found = vault.read("file")
    assert found in (old, None)
    assert vault.rival.claim("notices an old state that was put back").startswith(yes(found is None))


def test_sizes(vault: Vault) -> None:
    sizes = []
    for size in (100, 101):
        vault.write(file=bytes(size))
        sizes.append(Counter(map(len, vault.files().values())))
    assert vault.rival.claim("sizes hidden").startswith(yes(sizes[0] == sizes[1]))


def test_shape_and_names(vault: Vault) -> None:
    def depth() -> int:
        return max((len(path.relative_to(vault.lower).parts) for path in vault.lower.rglob("*")), default=0)

    with vault.mounted() as up:
        (up / "other").mkdir()
        before = depth()
        (up / "a/a/a/a/a").mkdir(parents=True)
        shown = depth() - before == 4
        (up / "other/a").touch()
        for length in range(255, 0, -1):
            try:
                (up / ("n" * length)).touch()
            except OSError:
                continue
            break
        names = [path.name for path in vault.lower.rglob("*")]
    assert vault.rival.claim("shape of the tree hidden").startswith(yes(not shown))
    assert vault.rival.claim("longest name, octets").startswith(str(length))
    claim = vault.rival.claim("file names hidden")
    assert claim.startswith(yes(not any(re.search("other|nnn", name) for name in names)))
    if shown:
        equal = max(count for name, count in Counter(names).items() if name != "gocryptfs.diriv")
        assert ("differ" in claim) == (equal == 1)
        assert ("look equal" in claim) == (equal >= 6)


def test_root_is_not_needed(vault: Vault) -> None:
    before = os.stat("/dev/fuse").st_mode
    os.chmod("/dev/fuse", 0o666)
    try:
        subprocess.run(["chown", "-R", "65534:65534", vault.place], check=True)
        with vault.mounted(user=65534):
            assert vault.is_mounted()
    finally:
        os.chmod("/dev/fuse", before)
    assert vault.rival.claim("root needed").startswith("no")


@pytest.mark.parametrize(
    ("name", "change", "mount"),
    [
        ("gocryptfs", "gocryptfs -q -passwd low", "gocryptfs -q -nosyslog -passfile new low up"),
        (
            "securefs-lite",
            "securefs chpass -r 1 --oldpass pw --newpass new low",
            "securefs mount -b --pass new low up",
        ),
    ],
)
def test_a_new_passphrase(name: str, change: str, mount: str, open_tmp_path: Path) -> None:
    """It opens what is there, and the old one does not."""
    vault = Vault(RIVALS[name], open_tmp_path)
    vault.write(file=b"contents")
    vault.run(change, typed="pw\nnew\nnew\n")
    (open_tmp_path / "new").write_text("new\n")
    vault.run(vault.rival.mount, None)
    assert not vault.is_mounted()
    with vault.mounted(mount) as up:
        assert (up / "file").read_bytes() == b"contents"
    assert vault.rival.claim("new passphrase for existing files").startswith("yes")


@pytest.mark.parametrize(
    ("rival", "claimed"),
    [
        (
            Rival(
                "gocryptfs",
                "gocryptfs -q -nosyslog -extpass cat -extpass pass low up",
                "gocryptfs -q -init -passfile pass low",
            ),
            "a program",
        ),
        (
            Rival(
                "securefs", "securefs mount -b --keyfile pass low up", "securefs create --keyfile pass low"
            ),
            "a key file",
        ),
    ],
    ids=["gocryptfs", "securefs"],
)
def test_keys_from_elsewhere(rival: Rival, claimed: str, open_tmp_path: Path) -> None:
    vault = Vault(rival, open_tmp_path)
    vault.write(file=b"contents")
    assert vault.read("file") == b"contents"
    assert rival.claim("keys from elsewhere").startswith(claimed)


def test_a_reverse_view(open_tmp_path: Path) -> None:
    vault = Vault(Rival("gocryptfs", "gocryptfs -q -nosyslog -passfile pass -reverse low up"), open_tmp_path)
    (vault.lower / "plain").write_bytes(b"contents")
    vault.run("gocryptfs -q -init -reverse -passfile pass low")
    with vault.mounted() as up:
        assert len(list(up.iterdir())) == 3  # its configuration, a file for names, and ours
        assert b"contents" not in b"".join(path.read_bytes() for path in up.iterdir())
    assert vault.rival.claim("an encrypted view of plain files").startswith("yes")


def test_stretching(vault: Vault) -> None:
    """What the configuration says of it."""
    with vault.mounted():
        pass
    text = b"".join(path.read_bytes() for path in vault.lower.iterdir() if path.is_file())
    claim = vault.rival.claim("passphrase stretching")
    assert re.findall(r"\w+", claim)[0].encode() in text.lower()
    for number in re.findall(r"N = (\d+)", claim):
        assert f'"N": {number}'.encode() in text

"""What fusecrypt needs of a system, looked at one by one, without changing anything."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import resource
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fusecrypt.errors import FusecryptError
from fusecrypt.keys import keyctl
from fusecrypt.native import Secret, engine, memory_locked

HELPER = "mount.fuse.fusecrypt"
_NEEDED = ("click", "cryptography", "cffi", "pyfuse3", "trio", "rich")
_FEW_DESCRIPTORS = 4096
_HELPER_PLACES = ("/sbin", "/usr/sbin")
"""Where mount(8) looks."""


class Level(Enum):
    """Good, something that one can do without, or nothing can be mounted."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True)
class Result:
    """What was looked at, how it is, and what to do about it where it is not good."""

    subject: str
    level: Level
    text: str
    fix: str = ""


def check_up(tcti: str | None = None) -> Iterator[Result]:
    """Look at everything. ``tcti`` names a TPM other than this machine's."""
    yield _libraries()
    yield _engine()
    yield _device()
    yield _fusermount()
    yield _mtab()
    yield _allow_other()
    yield _helper()
    yield _tpm(tcti)
    yield _keyring()
    yield _kernel()
    yield _memory()
    yield _descriptors()


def _libraries() -> Result:
    versions, absent = [], []
    for name in _NEEDED:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    if absent:
        fix = "install fusecrypt again, in an environment of its own: `pipx reinstall fusecrypt`"
        return Result("libraries", Level.BAD, f"absent: {', '.join(absent)}", fix)
    return Result("libraries", Level.GOOD, ", ".join(versions))


def _engine() -> Result:
    if engine() == "portable" and platform.machine() == "x86_64":
        fix = "install libipsec-mb-dev and build fusecrypt again"
        return Result("AES", Level.NOTE, "the portable engine is used, which is slower", fix)
    return Result("AES", Level.GOOD, f"the engine {engine()} is used")


def _device() -> Result:
    subject = "FUSE device"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        fix = "load the module: `modprobe fuse`; a container has to be given /dev/fuse"
        if error.errno in (errno.EACCES, errno.EPERM):
            fix = "let users open it: `chmod 666 /dev/fuse`, as udev does; a container has to allow it"
        return Result(subject, Level.BAD, f"cannot open /dev/fuse: {error.strerror}", fix)
    return Result(subject, Level.GOOD, "/dev/fuse can be opened")


def _fusermount() -> Result:
    subject = "fusermount3"
    needed = Level.NOTE if os.geteuid() == 0 else Level.BAD  # root mounts by itself
    path = shutil.which("fusermount3")
    if path is None:
        return Result(subject, needed, "not installed: only root can mount", "install the package fuse3")
    if not os.stat(path).st_mode & stat.S_ISUID:
        text = f"{path} is not set-user-id: only root can mount"
        return Result(subject, needed, text, f"`chmod u+s {path}`, or install the package fuse3 again")
    return Result(subject, Level.GOOD, path)


def _mtab() -> Result:
    if os.path.exists("/etc/mtab"):
        return Result("mount table", Level.GOOD, "/etc/mtab is there")
    text = "/etc/mtab is absent: fusermount3 cannot unmount for users"
    return Result("mount table", Level.NOTE, text, "`ln -s ../proc/self/mounts /etc/mtab`")


def _allow_other() -> Result:
    subject = "allow_other"
    try:
        lines = Path("/etc/fuse.conf").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" in (line.strip() for line in lines):
        return Result(subject, Level.GOOD, "users may let others into their mounts")
    fix = "if they should: write a line `user_allow_other` into /etc/fuse.conf"
    return Result(subject, Level.NOTE, "only root may let others into a mount", fix)


def _helper() -> Result:
    for directory in _HELPER_PLACES:
        path = Path(directory, HELPER)
        if os.access(path, os.X_OK):
            return Result("fstab", Level.GOOD, f"mount(8) finds {path}")
    text = "mount(8) does not know fuse.fusecrypt"
    return Result("fstab", Level.NOTE, text, f'`ln -s "$(command -v {HELPER})" /sbin/`')


def _tpm(tcti: str | None) -> Result:
    try:
        from fusecrypt.keys.tpm.session import TPM

        with TPM(tcti):
            return Result("TPM", Level.GOOD, "it answers")
    except FusecryptError as error:
        return Result("TPM", Level.NOTE, str(error), error.hint or "none is needed without TPM slots")


def _keyring() -> Result:
    try:
        keyctl.search(keyctl.USER, "user", "fusecrypt doctor looks for nothing")
    except OSError as error:
        if error.errno != errno.ENOKEY:
            text = f"the kernel's keyrings cannot be used: {error.strerror}"
            fix = "containers forbid it: take keys from files or key slots"
            return Result("keyring", Level.NOTE, text, fix)
    return Result("keyring", Level.GOOD, "the user keyring can be searched")


def _kernel() -> Result:
    subject = "kernel eCryptfs"
    if any(line.split()[-1] == "ecryptfs" for line in Path("/proc/filesystems").read_text().splitlines()):
        return Result(subject, Level.GOOD, "loaded: do not mount a tree with both at the same time")
    modules = Path("/lib/modules", platform.release(), "kernel/fs/ecryptfs")
    if modules.is_dir():
        return Result(subject, Level.GOOD, "there, not loaded")
    return Result(subject, Level.GOOD, "absent, and not needed")


def _memory() -> Result:
    subject = "locked memory"
    with Secret(4096):
        if memory_locked():
            return Result(subject, Level.GOOD, "keys stay out of the swap")
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    text = f"no key memory can be locked (limit {limit} octets): it may reach the swap"
    return Result(subject, Level.NOTE, text, "raise it: `ulimit -l`, limits.conf(5), LimitMEMLOCK= of a unit")


def _descriptors() -> Result:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # the daemon raises its own to that
    if limit != resource.RLIM_INFINITY and limit < _FEW_DESCRIPTORS:
        fix = "raise it: `ulimit -Hn`, limits.conf(5), LimitNOFILE= of a unit"
        return Result("descriptors", Level.NOTE, f"only {limit} files can be open at once in a mount", fix)
    return Result("descriptors", Level.GOOD, f"{limit} files can be open at once in a mount")

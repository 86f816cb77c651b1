"""Where passphrases come from: files, descriptors, commands."""

from __future__ import annotations

import codecs
import os
import shlex
import signal
import subprocess

from fusecrypt.errors import SecretError, UsageError
from fusecrypt.keys.token import MAX_PASSPHRASE
from fusecrypt.native import Secret
from fusecrypt.sources.lines import read_line
from fusecrypt.sources.person import say

_UTILS_NAMES = (b"passphrase_passwd=", b"passwd=")
_BOM: bytes = codecs.BOM_UTF8


def from_file(path: str) -> Secret:
    """The first line of a file; ``-`` is standard input. Raises SecretError."""
    if path == "-":
        return _remarked(read_line(0, "standard input"), "standard input")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _remarked(read_line(fd, path), path)
        finally:
            os.close(fd)
    except OSError as error:
        raise SecretError(
            f"cannot read passphrase file {path}: {error.strerror}", "check its path and permissions"
        ) from None


def _remarked(secret: Secret, source: str) -> Secret:
    """A secret as it is. What editors of other systems put around it counts, and is easily overlooked."""
    view = secret.view()
    if view[-1] == 0x0D:
        say(f"{source}: the line ends with a carriage return, which is taken as a part of the secret")
    if view[: len(_BOM)] == _BOM:
        say(f"{source}: the line begins with a byte order mark, which is taken as a part of the secret")
    return secret


def from_credentials() -> list[Secret]:
    """The credential ``fusecrypt.passphrase`` of a service (systemd.exec(5)), if there is one."""
    path = os.path.join(os.environ.get("CREDENTIALS_DIRECTORY", ""), "fusecrypt.passphrase")
    return [from_file(path)] if os.path.isabs(path) and os.path.exists(path) else []


def from_descriptor(fd: int) -> Secret:
    """The first line from an open descriptor. Raises SecretError, UsageError for what cannot be one."""
    try:
        return read_line(fd, f"descriptor {fd}")
    except OSError as error:
        raise SecretError(
            f"cannot read descriptor {fd}: {error.strerror}", "open it for the command: N<FILE"
        ) from None
    except OverflowError:
        raise UsageError(f"{fd} is no descriptor", "descriptors are small numbers: 3 for one") from None


def from_command(command: str) -> Secret:
    """The first line that a command prints; it is split like a shell would, but no shell runs it.

    Raises SecretError; where the command failed that is what it says, and not that its line was empty.
    """
    process, name = _start(command)
    try:
        with process:
            assert process.stdout is not None
            secret = read_line(process.stdout.fileno(), f"command {name}")
    except SecretError:
        if process.returncode in (0, -signal.SIGPIPE):  # SIGPIPE: it had more to say than we read
            raise
    if process.returncode != 0:
        raise SecretError(
            f"--extpass command {name} ended with status {process.returncode}",
            "run it alone, and see what it says",
        )
    return secret


def _start(command: str) -> tuple[subprocess.Popen[bytes], str]:
    """The process, and the name of its program."""
    try:
        words = shlex.split(command)
        if not words:
            raise ValueError("it is empty")
        return subprocess.Popen(words, stdout=subprocess.PIPE), words[0]
    except OSError as error:
        what = f"{words[0]}: {error.strerror}"
    except ValueError as error:
        what = f"{command!r}: {error}"
    raise SecretError(f"cannot run --extpass command {what}", "check its spelling; no shell runs it")


def in_utils_form(line: Secret) -> Secret:
    """The passphrase in a line of mount.ecryptfs's passwd_file: ``passphrase_passwd=…`` or ``passwd=…``.

    Raises SecretError if it has neither.
    """
    view = line.view()
    for name in _UTILS_NAMES:
        if len(line) > len(name) and view[: len(name)] == name:
            return line.part(len(name), len(line))
    raise SecretError(
        "the passwd_file holds no passphrase_passwd=… line",
        "write that line, or use --passfile for a file with the bare passphrase",
    )


def check_length(secret: Secret) -> Secret:
    """Refuse what eCryptfs cannot take before spending time on it. Raises SecretError."""
    if len(secret) > MAX_PASSPHRASE:
        raise SecretError(
            f"the passphrase has {len(secret)} octets; eCryptfs takes at most {MAX_PASSPHRASE}",
            "a recovery key opens its key-slot file only: name that with --keyslots FILE",
        )
    return secret


def parse_salt(text: str) -> bytes:
    """A salt of 16 hex digits. Raises UsageError."""
    try:
        salt = bytes.fromhex(text)
    except ValueError:
        salt = b""
    if len(salt) != 8 or len(text) != 16:
        raise UsageError(f"{text!r} is no salt", "a salt has 16 hex digits")
    return salt

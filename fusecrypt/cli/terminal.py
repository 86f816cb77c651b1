"""How fusecrypt talks to a person.

The rules: prompts go to the terminal itself, never to standard output; messages go to standard error with
the program's name, without a capital or a full stop; a hint says what to do next, on a line of its own;
what is not printable in either is escaped, since names of files can hold anything; standard output is for
what was asked for; secrets are read into locked memory and never echoed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from fusecrypt.errors import SecretError
from fusecrypt.escape import escaped
from fusecrypt.native import Secret
from fusecrypt.sources.lines import EmptyLineError, read_line

_ASK = "systemd-ask-password"
_AGENTS = "/run/systemd/ask-password"
_PATIENCE = 90
"""Seconds for somebody to answer."""


def say(message: str) -> None:
    """A message to the user, on standard error."""
    print(f"fusecrypt: {escaped(message)}", file=sys.stderr)


def hint(message: str) -> None:
    """What to do next, below an error."""
    print(f"  hint: {escaped(message)}", file=sys.stderr)


def shell_words(words: Iterable[str]) -> str:
    """A command as a shell takes it, on one line and printable whatever the words are."""
    return " ".join(map(_shell_word, words))


def _shell_word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_shell_octet, os.fsencode(word))) + "'"


def _shell_octet(octet: int) -> str:
    return chr(octet) if chr(octet) not in "'\\" and 0x20 <= octet < 0x7F else f"\\{octet:03o}"


def has_terminal() -> bool:
    """Whether a secret can be asked for."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return _in_service()
    return True


def _in_service() -> bool:
    """Whether we are what a unit of systemd runs, so that its agents may ask: at boot, or on any console.

    What such a process starts (cron, a builder) has the same environment, and nobody waits for its questions.
    """
    is_main = os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
    return is_main and os.path.isdir(_AGENTS) and shutil.which(_ASK) is not None


def ask_secret(prompt: str) -> Secret:
    """Ask for a line on the terminal without echo, or in a service through systemd-ask-password(1).

    Raises SecretError where there is neither, or nobody answers, EmptyLineError for an empty line.
    """
    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        if _in_service():
            return _ask_by_agents(prompt)
        raise SecretError(
            "a passphrase is needed and there is no terminal to ask on",
            "give it with --passfile FILE, --passphrase-fd N or --extpass COMMAND",
        ) from None
    try:
        with _without_echo(tty):
            # Only now: what a quick hand types after the prompt must neither be shown nor thrown away.
            os.write(tty, f"{prompt}: ".encode())
            return read_line(tty, "the terminal")
    except EmptyLineError:
        raise EmptyLineError("nothing was typed", "begin again") from None
    finally:
        os.close(tty)


@contextmanager
def _without_echo(tty: int) -> Iterator[None]:
    """Let the terminal show nothing for a while, and show again what is typed also if a signal ends us."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = termios.tcgetattr(tty)
    silent = termios.tcgetattr(tty)
    silent[3] &= ~termios.ECHO
    handlers = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGQUIT)}
    try:
        termios.tcsetattr(tty, termios.TCSAFLUSH, silent)
        yield
    finally:
        with suppress(termios.error, OSError):  # it may be gone
            termios.tcsetattr(tty, termios.TCSAFLUSH, before)
            os.write(tty, b"\n")
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _ask_by_agents(prompt: str) -> Secret:
    command = [_ASK, "--id=fusecrypt", f"--timeout={_PATIENCE}", f"{prompt} (fusecrypt)"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        return read_line(process.stdout.fileno(), _ASK)

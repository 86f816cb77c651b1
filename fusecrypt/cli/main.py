"""The program ``fusecrypt``."""

from __future__ import annotations

import os
import sys

import click

from fusecrypt import __version__
from fusecrypt.cli import terminal
from fusecrypt.cli.advice import advice
from fusecrypt.cli.lazy import LazyGroup
from fusecrypt.cli.terminal import hint, say
from fusecrypt.errors import FusecryptError
from fusecrypt.sources.person import introduce

_COMMANDS = {
    "Mount": {
        "mount": "fusecrypt.cli.mount:mount",
        "umount": "fusecrypt.cli.umount:umount",
        "status": "fusecrypt.cli.status:status",
        "doctor": "fusecrypt.cli.doctor:doctor",
    },
    "Look without mounting": {
        "identify": "fusecrypt.cli.identify:identify_",
        "recover": "fusecrypt.cli.recover:recover",
        "ls": "fusecrypt.cli.ls:ls",
        "cat": "fusecrypt.cli.cat:cat",
        "stat": "fusecrypt.cli.stat:stat",
        "find": "fusecrypt.cli.find:find",
        "name": "fusecrypt.cli.name:name",
    },
    "Copy without mounting": {
        "export": "fusecrypt.cli.export:export",
        "import": "fusecrypt.cli.import_:import_",
    },
    "Care": {
        "check": "fusecrypt.cli.check:check",
        "manifest": "fusecrypt.cli.manifest:manifest",
        "rekey": "fusecrypt.cli.rekey:rekey",
        "key": "fusecrypt.cli.key:key",
    },
    "Measure": {
        "bench": "fusecrypt.cli.bench:bench",
    },
}


@click.group(cls=LazyGroup, places=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fusecrypt")
def fusecrypt() -> None:
    """Read and write eCryptfs trees, and never be locked out of them.

    \b
    fusecrypt identify DIR                   what is encrypted there, and what opens it
    fusecrypt mount ~/.Private ~/Private     mount an old encrypted home
    fusecrypt umount ~/Private               and unmount it
    fusecrypt export ~/.Private ~/copy       copy it, decrypted, without a mount
    fusecrypt doctor                         what mounting needs of this system, and how to get it
    fusecrypt COMMAND --help                 more of each command

    Exit statuses: 0 done; 1 failed; 2 wrong command line; 3 no key fits; 4 no eCryptfs data, or damaged;
    5 this system lacks something.
    """


def main() -> None:
    """Run the command line and exit with a documented status."""
    sys.exit(run(fusecrypt))


def run(command: click.Command, name: str | None = None) -> int:
    """Run a command line and return its exit status; expected failures show no traceback."""
    introduce(terminal)
    try:
        status = command.main(prog_name=name, standalone_mode=False)
    except FusecryptError as error:
        _complain(str(error), error)
        status = error.exit_status
    except click.exceptions.Abort:
        say("interrupted")
        status = 1
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
    except OSError as error:
        what = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        _complain(f"{what}{error.strerror}", error)
        status = 1
    return status if isinstance(status, int) else 0


def _complain(message: str, error: FusecryptError | OSError) -> None:
    """Say what failed, and what to do next."""
    say(message)
    if next_step := advice(error):
        hint(next_step)

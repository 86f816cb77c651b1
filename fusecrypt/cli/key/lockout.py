"""fusecrypt key lockout: how many wrong PINs the TPM still takes."""

from __future__ import annotations

import dataclasses
import json

import click

from fusecrypt.cli.slot_options import tcti_option
from fusecrypt.cli.terminal import say
from fusecrypt.keys.tpm.errors import LockedOutError, WrongPINError
from fusecrypt.keys.tpm.facts import Lockout, reset_lockout
from fusecrypt.keys.tpm.facts import lockout as figures_of
from fusecrypt.sources import secrets as sources
from fusecrypt.sources.lazytpm import open_tpm


@click.command(short_help="Show or reset the TPM's counter of wrong PINs.")
@tcti_option
@click.option("--reset", is_flag=True, help="Set the counter to zero, with the TPM's lockout auth.")
@click.option("--auth-file", metavar="FILE", help="The lockout auth: FILE's first line. Empty without.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def lockout(tcti: str | None, reset: bool, auth_file: str | None, as_json: bool) -> None:
    """Show the TPM's counter of wrong PINs, or reset it.

    A wrong lockout auth makes the TPM refuse any other for some time.
    """
    with open_tpm(tcti) as tpm:
        if reset:
            auth = sources.from_file(auth_file) if auth_file else None
            try:
                reset_lockout(tpm, auth)
            except WrongPINError as error:
                wait = figures_of(tpm).seconds_recovery
                raise WrongPINError(
                    "the lockout auth is wrong", f"the TPM refuses any for {wait} s", error.code
                ) from error
            except LockedOutError as error:
                wait = figures_of(tpm).seconds_recovery
                raise LockedOutError(
                    "the TPM takes no lockout auth since a wrong one was given",
                    f"it does so again {wait} s after that, or after a restart if that is 0",
                    error.code,
                ) from error
        figures = figures_of(tpm)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(figures), "left": figures.left}))
    else:
        click.echo(_words(figures))
    if figures.advice:
        say(figures.advice)


def _words(figures: Lockout) -> str:
    state = "locked out" if figures.locked else f"attempts left: {figures.left}"
    return (
        f"{state} (wrong attempts: {figures.failed} of {figures.allowed}; "
        f"one is given back every {figures.seconds_per_try} s)"
    )

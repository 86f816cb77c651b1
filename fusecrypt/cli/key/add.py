"""fusecrypt key add: one more slot."""

from __future__ import annotations

from pathlib import Path

import click

from fusecrypt.cli.key import recovery
from fusecrypt.cli.key.access import Access, new_passfile_option, new_secret, unlocking
from fusecrypt.cli.terminal import say
from fusecrypt.errors import UsageError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.files import read_small
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slots.passphrase import PassphraseEnrolment
from fusecrypt.keys.slots.recovery import RecoveryBody, RecoveryEnrolment
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.slots.tpm2_spare import SpareEnrolment
from fusecrypt.keys.tpm.facts import lockout
from fusecrypt.keys.tpm.parent import name_of
from fusecrypt.keys.tpm.policy import SignedPolicy, parse_pcrs
from fusecrypt.sources.lazytpm import open_tpm

_MAX_PEM = 4096
_MAX_PUBLIC = 1024
_MAX_LABEL = 200

label_option = click.option("--label", metavar="TEXT", help="A name for the slot, shown by list.")


@click.group(short_help="Add a slot: passphrase, recovery key or TPM.")
def add() -> None:
    """Add a slot: one more secret that opens the same keys."""


@add.command(short_help="A slot that a passphrase opens.")
@unlocking
@new_passfile_option
@label_option
def passphrase(access: Access, new_passfile: str | None, label: str | None) -> None:
    """Add a slot that a passphrase opens."""
    opened = access.open()
    with new_secret(new_passfile, "passphrase") as secret:
        volume = opened.volume.add(PassphraseEnrolment(secret), check_label(label))
    opened.save(volume, revokes=False)
    say(f"slot {volume.file.slots[-1].id}: passphrase")


@add.command("recovery", short_help="A slot that a new recovery key opens.")
@unlocking
@recovery.recovery_file_option
@recovery.qr_option
@label_option
def recovery_(access: Access, recovery_file: Path | None, qr: bool, label: str | None) -> None:
    """Add a slot that a new recovery key opens, which is given out once."""
    recovery.check(recovery_file, qr)
    opened = access.open()
    enrolment = RecoveryEnrolment()
    volume = opened.volume.add(enrolment, check_label(label))
    giving = recovery.given_out(enrolment, recovery_file, qr, opened.store, volume)
    opened.save(volume, revokes=False, while_in=giving)
    say(f"slot {volume.file.slots[-1].id}: recovery key")


@add.command(short_help="A slot that this machine's TPM opens, or another one's.")
@unlocking
@click.option("--pin-file", metavar="FILE", help="The slot's PIN: FILE's first line.")
@click.option("--pin", "ask_pin", is_flag=True, help="Ask for a PIN on the terminal.")
@click.option("--pcrs", metavar="[BANK:]N+N", help="Bind to the present values of these PCRs.")
@click.option(
    "--signed-policy",
    type=click.Path(path_type=Path),
    metavar="PEM",
    help="Bind to PCR values that the owner of this public key signs.",
)
@click.option("--signed-pcrs", metavar="[BANK:]N+N", default="11", help="The PCRs of the signed policy.")
@click.option(
    "--parent-public",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Seal for another machine's TPM: TPM2B_PUBLIC of its key at 0x81000001.",
)
@click.option("--force", is_flag=True, help="Bind even to PCRs that are not in use.")
@recovery.recovery_file_option
@recovery.qr_option
@label_option
def tpm2(
    access: Access,
    pin_file: str | None,
    ask_pin: bool,
    pcrs: str | None,
    signed_policy: Path | None,
    signed_pcrs: str,
    parent_public: Path | None,
    force: bool,
    recovery_file: Path | None,
    qr: bool,
    label: str | None,
) -> None:
    """Add a slot that this machine's TPM opens, or with --parent-public another one's.

    Without --pin-file, --pcrs and --signed-policy it is bound to the machine alone: whoever has the machine
    has the keys. What was sealed is unsealed and compared before anything is written. With --parent-public
    that cannot be done, and this machine needs no TPM: the slot is unverified until key reseal on the other
    machine.

    TPMs break: a file without a recovery slot gets one too, whose key is given out once.
    """
    signed = read_policy(signed_policy, signed_pcrs) if signed_policy else None
    spare = read_public(parent_public) if parent_public else None
    if spare and pcrs:
        raise UsageError("the PCR values of another machine are not known here", "use --signed-policy")
    opened = access.open()
    way_back = _way_back(opened.file, recovery_file, qr)
    checked = check_label(label)
    pin = new_secret(pin_file, "PIN", "--pin-file") if pin_file or ask_pin else None
    if spare:
        volume = opened.volume.add(SpareEnrolment(spare, pin, signed), checked)
    else:
        literal = parse_pcrs(pcrs) if pcrs else None
        with open_tpm(access.options.tcti) as tpm:
            enrolment = TPM2Enrolment(tpm, pin, literal, signed, access.options.approvals(), force)
            volume = opened.volume.add(enrolment, checked)
            if pin and (advice := lockout(tpm).advice):
                say(advice)
    number, giving = volume.file.slots[-1].id, None
    if way_back is not None:
        volume = volume.add(way_back)
        giving = recovery.given_out(way_back, recovery_file, qr, opened.store, volume)
    opened.save(volume, revokes=False, while_in=giving)
    say(f"slot {number}: TPM{' with a PIN' if pin else ''}")
    if way_back is not None:
        say(f"slot {volume.file.slots[-1].id}: recovery key, for the file had none")
    if spare:
        say("the slot is unverified: only the other machine can show that it opens (key test, key reseal)")
    if not (pin or pcrs or signed):
        say("the slot has neither PIN nor PCRs: whoever has the machine has the keys")


def _way_back(file: SlotFile, path: Path | None, qr: bool) -> RecoveryEnrolment | None:
    """A new recovery key if the file has no slot for one. Raises UsageError for options that have no use."""
    if not any(isinstance(slot.body, RecoveryBody) for slot in file.slots):
        recovery.check(path, qr)
        return RecoveryEnrolment()
    if path is not None or qr:
        raise UsageError("there is a recovery slot already", "`fusecrypt key add recovery` makes another one")
    return None


def check_label(label: str | None) -> str | None:
    """A label as slots take it. Raises UsageError."""
    if label is not None and (len(label) > _MAX_LABEL or not label.isprintable() or not label):
        raise UsageError(
            f"a label has 1 to {_MAX_LABEL} printable characters",
            "shorten it, and use letters, digits and signs",
        )
    return label


def read_policy(path: Path, pcrs: str) -> SignedPolicy:
    """A public key in PEM and the PCRs whose values its owner signs."""
    bank, numbers = parse_pcrs(pcrs)
    try:
        pem = read_small(path, _MAX_PEM).decode("ascii")
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is no public key in PEM", "`openssl pkey -pubout` writes one") from None
    return SignedPolicy(bank, numbers, pem)


def read_public(path: Path) -> bytes:
    """TPM2B_PUBLIC with its two octets of size. Raises KeyFileError, TPMError."""
    public = read_small(path, _MAX_PUBLIC)
    if len(public) < 10 or int.from_bytes(public[:2], "big") != len(public) - 2:
        raise KeyFileError(
            f"{path} is no TPM2B_PUBLIC", "tpm2_readpublic -c 0x81000001 -o FILE makes it on that machine"
        )
    name_of(public)
    return public

"""fusecrypt doctor: whether this system has what fusecrypt needs, and what to do where it has not."""

from __future__ import annotations

from dataclasses import asdict

import click

from fusecrypt.cli.checkup import Level, check_up
from fusecrypt.cli.output import json_option, write_json, write_line
from fusecrypt.cli.slot_options import tcti_option
from fusecrypt.escape import escaped


@click.command(short_help="Say what mounting lacks on this system, and how to mend it.")
@tcti_option
@json_option
def doctor(tcti: str | None, as_json: bool) -> int:
    """Look at what fusecrypt needs of this system, and say how to mend what is not good.

    FUSE (device, fusermount3, mount table, allow_other), the mount(8) helper, libraries and the engine for
    AES, the TPM, keyrings, the kernel's own eCryptfs, and limits of locked memory and open files. Nothing is
    changed. Run it as the user who is to mount. A note is something that one can do without.

    Exit statuses: 0 trees can be mounted; 5 this system lacks something that is needed for it.
    """
    results = list(check_up(tcti))
    for each in results:
        if as_json:
            write_json(asdict(each) | {"level": each.level.value})
            continue
        write_line(f"{each.level.value:<5} {each.subject}: {escaped(each.text)}")
        if each.fix:
            write_line(f"      fix: {escaped(each.fix)}")
    return 5 if any(each.level is Level.BAD for each in results) else 0

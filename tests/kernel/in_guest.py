"""What the kernel does with a tree: carry out a plan on it, show it, hand it back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests import golden, manifest
from tests.kernel.guest import Guest
from tests.kernel.plan import Operation
from tests.kernel.variants import Variant

_SCRIPT = """
import os
import guest_lib, manifest, plan
os.umask(0)
{keys}
if os.path.exists("/share/to-guest.tar"):
    guest_lib.unpack("/share/to-guest.tar", "/scratch/lower")
else:
    os.mkdir("/scratch/lower")
with guest_lib.mounted("/scratch/lower", {options!r}) as upper:
    plan.run(upper, "/share/plan.json", "/share/outcomes.json")
manifest.dump(guest_lib.show("/scratch/lower", {options!r}), "/share/manifest.json")
guest_lib.pack("/scratch/lower", "/share/to-host.tar")
"""


def work(
    guest: Guest, variant: Variant, lower: Path, operations: Sequence[Operation]
) -> tuple[list[str], list[manifest.Entry]]:
    """Let the kernel work on a lower tree of the host, or a new one if `lower` is absent; then unmount.

    Returns the outcomes and what the kernel shows after mounting once more. `lower` is what it left.
    """
    share = guest.share
    archive = share / "to-guest.tar"
    archive.unlink(missing_ok=True)
    if lower.exists():
        golden.pack(lower, archive)
        shutil.rmtree(lower)
    (share / "plan.json").write_text(json.dumps(operations))
    guest.run(_SCRIPT.format(keys=variant.add_keys, options=variant.options)).checked()
    golden.unpack(share / "to-host.tar", lower)
    return json.loads((share / "outcomes.json").read_text()), manifest.load(share / "manifest.json")

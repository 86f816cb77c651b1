"""Keys for mounts: the golden trees' own in files, and software TPMs that hold them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusecrypt.keys.tpm.session import TPM
from tests import golden, manifest
from tests.mount.support import mounted, run
from tests.tpm.conftest import SoftwareTPM

SOFTWARE = "this is a software TPM"
"""What is said out loud whenever one is used."""


@contextmanager
def software_tpm(state: Path | None = None) -> Iterator[SoftwareTPM]:
    """A running software TPM, fresh or from the archive of a state."""
    with tempfile.TemporaryDirectory(prefix="fc-") as name:
        tpm = SoftwareTPM(Path(name))
        if state is not None:
            golden.unpack(state, tpm.directory / "state")
        tpm.start()
        try:
            yield tpm
        finally:
            tpm.stop()


def golden_tpm() -> Path:
    """The state of the TPM that the golden trees' trusted keys were sealed by."""
    return golden.DIRECTORY / "tpm" / "swtpm-state.tar.xz"


def captured(tree: golden.GoldenTree, kind: str) -> dict[str, str]:
    """What ``keyctl pipe`` printed of a golden tree's keys of a type, by their descriptions."""
    texts: dict[str, str] = tree.details["captured"]
    return {key.removeprefix(f"{kind}:"): text for key, text in texts.items() if key.startswith(f"{kind}:")}


def encrypted_files(tree: golden.GoldenTree, directory: Path, *, named: bool) -> list[str]:
    """Options for a golden tree's encrypted keys, with their signatures or without."""
    words = []
    for number, (sig, text) in enumerate(sorted(captured(tree, "encrypted").items(), reverse=True)):
        path = directory / f"key{number}"
        path.write_text(text)
        words += ["--encrypted-key", f"{sig}={path}" if named else str(path)]
    return words


def user_master(tree: golden.GoldenTree, directory: Path) -> list[str]:
    """Options for the ``user`` master of a golden tree."""
    path = directory / "master"
    path.write_bytes(bytes.fromhex(tree.details["about_keys"]["master"]["hex"]))
    return ["--master", f"user:{path}"]


def trusted_master(tree: golden.GoldenTree, directory: Path) -> list[str]:
    """Options for the ``trusted`` master of a golden tree, without what opens it."""
    path = directory / "trusted"
    (text,) = captured(tree, "trusted").values()
    path.write_text(text)
    return ["--master", f"trusted:{path}"]


def shows_golden(tree: golden.GoldenTree, lower: Path, *words: str, log_allows: tuple[str, ...] = ()) -> None:
    """Mount and export a golden tree without a passphrase; all of both is what the kernel shows."""
    with mounted(lower, *words, passphrases=(), log_allows=log_allows) as mount:
        assert manifest.diff(tree.manifest(), manifest.manifest(mount.path)) == []
    copy = lower.with_name(lower.name + ".copy")
    run("export", "--special", *words, lower, copy)
    assert manifest.diff(tree.manifest(), manifest.manifest(copy)) == []


def extend(tpm: TPM, number: int) -> None:
    """Change a PCR, as another boot state would."""
    lib = tpm.lib
    digest = lib.TPMT_HA(hashAlg=lib.TPM2_ALG.SHA256, digest=lib.TPMU_HA(sha256=b"\x01" * 32))
    tpm.call("pcr_extend", lib.ESYS_TR(number), lib.TPML_DIGEST_VALUES([digest]))

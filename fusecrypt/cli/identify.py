"""fusecrypt identify: what a file or directory is, without any key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.output import Failures, json_option, json_path, write_json, write_line
from fusecrypt.escape import escaped
from fusecrypt.offline.identify import ECRYPTFS, Identity, identify, name_cipher
from fusecrypt.offline.material import Material
from fusecrypt.tree.headers import Found
from fusecrypt.tree.survey import Survey

_OTHER = 4


@click.command("identify", short_help="Say what is encrypted in a place, and what opens it.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@json_option
def identify_(paths: Sequence[Path], as_json: bool) -> int:
    """Say what each PATH is: an eCryptfs tree or file, something else that is known, or neither.

    No key is needed, and nothing is changed. Of a tree it shows which keys, ciphers and kinds of names
    it has, where key material lies, and what is needed to open it. A directory is searched, so a whole home
    or disk may be named.

    Also known by their signatures: LUKS volumes, trees of gocryptfs, EncFS, CryFS and securefs, file systems
    with fscrypt, files of Synology's Cloud Sync, encrypted Android partitions, memory cards that a Samsung
    phone encrypted, and eCryptfs's own key files. VeraCrypt's volumes have no signature.

    Exit statuses: 0 all are eCryptfs data or hold such; 1 a PATH cannot be read; 4 a PATH is something
    else, or damaged.
    """
    failures = Failures()
    for path in paths:
        with failures.of(bytes(path)):
            found = identify(path)
            if as_json:
                write_json(_json(found))
            else:
                _print(found)
            if found.kind not in ECRYPTFS:
                failures.status = max(failures.status, _OTHER)
    return failures.status


def _print(found: Identity) -> None:
    write_line(f"{escaped(str(found.path))}: {found.what}")
    for name, value in _lines(found):
        write_line(f"  {name:<8}{value}")
    for tree in found.trees:
        _print(tree)


def _lines(found: Identity) -> Iterator[tuple[str, str]]:
    if found.survey is not None:
        yield from _survey_lines(found.survey)
    if not found.complete:
        yield "note", "there is more, which was not looked at"
    if found.found is not None:
        yield from _header_lines(found.found)
    for each in found.material:
        if found.kind != "ecryptfs-key-file":
            yield "key", f"{escaped(str(each.path))}: {each.what}"
    for refusal in found.refusals:
        yield "note", escaped(refusal)
    for n, need in enumerate(found.needs):
        yield "or" if n else "needs", escaped(need)
    if found.advice:
        yield "advice", escaped(found.advice)


def _survey_lines(survey: Survey) -> Iterator[tuple[str, str]]:
    for profile, count in survey.profiles.most_common():
        keys = " and ".join(sig.hex() for sig in profile.signatures)
        place = "in the attribute" if profile.in_xattr else "in front"
        yield "files", f"{count} with {profile.cipher}, key {keys}, header {place}"
    if survey.public_key_files:
        yield "files", f"{survey.public_key_files} for public keys of ecryptfsd"
    if survey.foreign:
        yield "files", f"{survey.foreign} that are no eCryptfs files"
    for (sig, code), count in survey.names.most_common():
        cipher, size = name_cipher(code)
        yield "names", f"{count} with {cipher}{f'-{size * 8}' if size else ''}, key {sig.hex()}"
    if survey.plain_names:
        yield "names", f"{survey.plain_names} plain"
    if survey.unreadable:
        yield "note", f"{survey.unreadable} files or directories cannot be read"


def _header_lines(found: Found) -> Iterator[tuple[str, str]]:
    yield "size", f"{found.header.size}"
    yield "header", "in the attribute" if found.in_xattr else f"in front, {found.header.region} octets"
    for packet in found.header.passphrase_packets:
        yield "packet", f"{packet.cipher}, key {packet.signature.hex()}"
    if len(found.header.packets) > len(found.header.passphrase_packets):
        yield "packet", "public key of ecryptfsd"


def _json(found: Identity) -> dict[str, Any]:
    data: dict[str, Any] = {**json_path("path", bytes(found.path)), "kind": found.kind, "what": found.what}
    data |= {"ecryptfs": found.kind.startswith("ecryptfs"), "advice": found.advice}
    if found.survey is not None:
        data |= _survey_json(found.survey)
        data["complete"] = found.complete
    if found.found is not None:
        data |= {
            "size": found.found.header.size,
            "in_xattr": found.found.in_xattr,
            "packets": [
                {
                    "signature": p.signature.hex(),
                    "cipher": p.cipher.spec.name,
                    "key_bytes": p.cipher.key_bytes,
                }
                for p in found.found.header.passphrase_packets
            ],
        }
    data["key_material"] = [_material_json(each) for each in found.material]
    data |= {"remarks": list(found.refusals), "needs": list(found.needs)}
    data["trees"] = [_json(tree) for tree in found.trees]
    return data


def _survey_json(survey: Survey) -> dict[str, Any]:
    return {
        "files": [
            {
                "signatures": [sig.hex() for sig in profile.signatures],
                "cipher": profile.cipher.spec.name,
                "key_bytes": profile.cipher.key_bytes,
                "in_xattr": profile.in_xattr,
                "count": count,
            }
            for profile, count in survey.profiles.most_common()
        ],
        "names": [
            {
                "signature": sig.hex(),
                **dict(zip(("cipher", "key_bytes"), name_cipher(code), strict=True)),
                "count": count,
            }
            for (sig, code), count in survey.names.most_common()
        ],
        "plain_names": survey.plain_names,
        "public_key_files": survey.public_key_files,
        "other_files": survey.foreign,
        "unreadable": survey.unreadable,
        "entries": survey.entries,
    }


def _material_json(each: Material) -> dict[str, Any]:
    signatures = [sig.hex() for sig in each.signatures]
    return {**json_path("path", bytes(each.path)), "kind": each.kind, "what": each.what, "keys": signatures}

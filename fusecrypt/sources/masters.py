"""Keys of the kernel's type ``encrypted``, given as files: opened by their master, assigned to a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fusecrypt.errors import KeyNotFoundError, UsageError
from fusecrypt.keys.encrypted import MAX_TEXT, EncryptedBlob
from fusecrypt.keys.errors import KeyFileError, WrongSecretError
from fusecrypt.keys.files import read_named, read_secret
from fusecrypt.keys.raw import split_assignment
from fusecrypt.keys.token import ENCRYPTED_KEY_SALT, AuthToken
from fusecrypt.keys.tpm.kernel import KernelAuth, parse_handle, read_auth, unseal_master
from fusecrypt.keys.tpm.policy import parse_pcrs
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.trusted import MAX_TEXT as MAX_TRUSTED
from fusecrypt.keys.trusted import TPMKey
from fusecrypt.native import Secret, signature
from fusecrypt.sources import secrets
from fusecrypt.tree.proof import prove_name_cipher
from fusecrypt.tree.survey import Survey

_MAX_USER_KEY = 32767
"""Octets of the longest payload of a key of type ``user``."""

OpenTPM = Callable[[], AbstractContextManager[TPM]]


@dataclass(frozen=True)
class Master:
    """What ``--master`` and its companions say; all are still text."""

    kind: str = ""
    path: Path = Path()
    blobauth_file: str | None = None
    keyauth_file: str | None = None
    handle: str | None = None
    pcrs: str | None = None

    @classmethod
    def parse(cls, text: str | None, *companions: str | None) -> Master:
        """``user:FILE`` or ``trusted:FILE``, then what the fields after ``path`` say; UsageError."""
        if text is None:
            return cls("", Path(), *companions)
        kind, _, name = text.partition(":")
        if kind not in ("user", "trusted") or not name:
            raise UsageError(f"--master {text} is not understood", "write user:FILE or trusted:FILE")
        return cls(kind, Path(name), *companions)

    def auth(self) -> KernelAuth:
        """Auth values, handle and PCRs. Raises UsageError, SecretError."""
        return KernelAuth(
            read_auth(secrets.from_file(self.blobauth_file)) if self.blobauth_file else None,
            read_auth(secrets.from_file(self.keyauth_file)) if self.keyauth_file else None,
            parse_handle(self.handle) if self.handle else None,
            parse_pcrs(self.pcrs) if self.pcrs else None,
        )

    def secret(self, open_tpm: OpenTPM) -> Secret:
        """The master's octets. A ``trusted`` one is unsealed. Raises OSError and what unsealing raises."""
        if self.kind == "user":
            return read_secret(self.path, _MAX_USER_KEY)
        text = read_named(self.path, MAX_TRUSTED)
        with _named(self.path):
            return self.unseal(text, open_tpm)

    def unseal(self, text: bytes, open_tpm: OpenTPM) -> Secret:
        """The octets of a ``trusted`` key from its text."""
        key, auth = TPMKey.parse_text(text), self.auth()
        with open_tpm() as tpm:
            return unseal_master(tpm, key, auth)


def encrypted_tokens(
    arguments: Sequence[str],
    master: Master,
    open_tpm: OpenTPM,
    first: Survey,
    whole: Callable[[], Survey],
    named: Sequence[bytes],
) -> list[AuthToken]:
    """The keys in the files of ``--encrypted-key [SIG=]FILE``.

    A key without SIG gets the signature that it is proven for on the ``first`` findings of the tree, or else
    proven or left for on the ``whole`` tree; ``named`` are the content signatures that mount options name.
    Raises UsageError, KeyNotFoundError, KeyFileError, WrongSecretError, and what unsealing the master raises.
    """
    if not arguments:
        return []
    if not master.kind:
        raise UsageError("--encrypted-key needs its master key", "add --master user:FILE or trusted:FILE")
    tokens: list[AuthToken] = []
    unassigned: list[tuple[str, Secret]] = []
    with master.secret(open_tpm) as secret:
        for argument in arguments:
            sig, path = split_assignment(argument)
            key = _open(path, master, secret)
            sig = sig or _proven_sig(key, first) or _proven_sig(key, whole())
            if sig is None:
                unassigned.append((str(path), key))
            else:
                tokens.append(AuthToken(sig, key, ENCRYPTED_KEY_SALT))
    if not unassigned:
        return tokens
    taken = {token.signature for token in tokens}
    wanted = sorted((set(named) or whole().content_signatures) - taken)
    return tokens + _assign(unassigned, wanted)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say of which file an error is."""
    try:
        yield
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}", error.hint or "keyctl pipe prints it anew") from error


def _open(path: Path, master: Master, secret: Secret) -> Secret:
    text = read_named(path, MAX_TEXT)
    with _named(path):
        blob = EncryptedBlob.parse(text)
        if blob.master_type != master.kind:
            raise UsageError(
                f"{path} was made with a {blob.master_type} key, --master names a {master.kind} key",
                f"write --master {blob.master_type}:FILE",
            )
        try:
            return blob.token(b"", secret).key
        except WrongSecretError as error:
            exactly = f"{master.path} must hold the payload's octets exactly: no hex, no newline at the end; "
            hint = f"{exactly if master.kind == 'user' else ''}{error.hint}"
            raise WrongSecretError(f"{path}: {error}", hint) from error


def _proven_sig(key: Secret, survey: Survey) -> bytes | None:
    """The signature that derives from the key, or that of names which the key opens."""
    own = signature(key)
    if own in survey.content_signatures | survey.name_signatures:
        return own
    for (sig, _), samples in survey.samples.items():
        if any(prove_name_cipher(sample, AuthToken(sig, key)) for sample in samples):
            return sig
    return None


def _assign(keys: Sequence[tuple[str, Secret]], wanted: Sequence[bytes]) -> list[AuthToken]:
    """A content key is not proven by a file's header: it is assigned only where there is no choice."""
    if len(keys) == len(wanted) == 1:
        return [AuthToken(wanted[0], keys[0][1], ENCRYPTED_KEY_SALT)]
    names = ", ".join(name for name, _ in keys)
    if not wanted:
        raise KeyNotFoundError(
            f"{names}: this tree has no use for the key",
            "check that it is of this tree; for a new one write --encrypted-key SIG=FILE",
        )
    raise UsageError(
        f"{names}: which is for which of {', '.join(sig.hex() for sig in wanted)}?",
        "write --encrypted-key SIG=FILE",
    )

"""From the keys at hand, the options given and what the tree says, to the policy it is mounted with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fusecrypt.errors import KeyNotFoundError, TreeError, UsageError
from fusecrypt.keys.token import AuthToken
from fusecrypt.ondisk.ciphers import AES, CIPHERS, CipherChoice, choose
from fusecrypt.tree.policy import NamePolicy, Policy
from fusecrypt.tree.proof import check_assigned, prove_name_cipher, proven_cipher
from fusecrypt.tree.survey import LIMIT, Profile, Survey

_ENOUGH = 2048
"""Entries after which a survey that has found a use for every key stops."""

NEW_CIPHER = CipherChoice(AES, 32)


@dataclass(frozen=True)
class Candidates:
    """The keys one secret gives: ``content`` as the FEKEK of a new tree, ``names`` as its FNEK.

    On an existing tree each may serve for both, and so may ``others``.
    """

    content: AuthToken
    names: AuthToken
    others: tuple[AuthToken, ...] = ()

    @property
    def tokens(self) -> tuple[AuthToken, ...]:
        """Each key once."""
        unique = {token.signature: token for token in (*self.others, self.names, self.content)}
        return tuple(unique.values())


@dataclass(frozen=True)
class Options:
    """What the user asked for, in the kernel's terms; None is left to the tree (or to the defaults)."""

    signatures: tuple[bytes, ...] = ()
    fnek_signature: bytes | None = None
    cipher: str | None = None
    key_bytes: int | None = None
    fn_cipher: str | None = None
    fn_key_bytes: int | None = None
    encrypt_names: bool | None = None
    passthrough: bool = False
    xattr_metadata: bool = False
    encrypted_view: bool = False
    mount_auth_tok_only: bool = False
    read_only: bool = False
    shared: bool = False
    noatime: bool = False


@dataclass(frozen=True)
class Resolution:
    """The policy, whether the tree is a new one, and remarks for the user."""

    policy: Policy
    new: bool
    remarks: tuple[str, ...] = field(default=())


def resolve(steps: Iterator[Survey], candidates: Sequence[Candidates], options: Options) -> Resolution:
    """Decide how to use a tree.

    Raises KeyNotFoundError for a key that fits nothing (naming what the tree wants and what was given),
    UsageError for options that cannot be, TreeError for a directory that is no eCryptfs tree.
    """
    survey = _look(steps, candidates, options)
    tokens = {t.signature: t for candidate in candidates for t in candidate.tokens}
    _check_every_key_fits(survey, candidates, options)
    check_assigned(survey, tokens.values())
    new = not survey.is_ecryptfs
    if new:
        _check_may_start(survey, options)
    profile = _profile(survey, tokens)
    content = _content(survey, profile, candidates, tokens, options)
    cipher = _cipher(options.cipher, options.key_bytes, profile.cipher if profile else None, NEW_CIPHER)
    names = _names(survey, candidates, tokens, options, cipher)
    used = {t.signature for t in content}
    policy = Policy(
        content=content,
        cipher=cipher,
        names=names,
        other_names=_other_names(survey, candidates, names),
        others=()
        if options.mount_auth_tok_only
        else tuple(t for signature, t in tokens.items() if signature not in used),
        xattr_metadata=options.xattr_metadata
        or options.encrypted_view
        or (profile is not None and profile.in_xattr),
        passthrough=options.passthrough,
        encrypted_view=options.encrypted_view,
        read_only=options.read_only or options.encrypted_view,
        shared=options.shared,
        noatime=options.noatime,
    )
    return Resolution(policy, new, _remarks(new, profile, policy))


def _look(steps: Iterator[Survey], candidates: Sequence[Candidates], options: Options) -> Survey:
    """Survey until every key has found its use and a fair sample was seen, or there is no more."""
    survey = Survey()
    for survey in steps:
        if survey.entries >= LIMIT:
            break
        if survey.entries >= _ENOUGH and survey.profiles and not _idle(survey, candidates, options):
            break
    return survey


def _idle(survey: Survey, candidates: Iterable[Candidates], options: Options) -> list[Candidates]:
    """The candidates of which no key is used in the tree or named in the options."""
    known = survey.content_signatures | survey.name_signatures | set(options.signatures)
    if options.fnek_signature:
        known.add(options.fnek_signature)
    return [c for c in candidates if not known & {t.signature for t in c.tokens}]


def _hex(signatures: Iterable[bytes]) -> str:
    return ", ".join(sorted(s.hex() for s in signatures)) or "none"


def _check_every_key_fits(survey: Survey, candidates: Sequence[Candidates], options: Options) -> None:
    if not candidates:
        raise UsageError("no key was given", "name a passphrase file with --passfile")
    idle = _idle(survey, candidates, options) if survey.is_ecryptfs else []
    if idle and not survey.profiles and not survey.names:
        raise KeyNotFoundError(
            f"all {survey.public_key_files} files found are encrypted for public keys of ecryptfsd",
            "such files cannot be opened with a passphrase",
        )
    if idle:
        given = [t.signature for c in idle for t in c.tokens]
        contents, names = _hex(survey.content_signatures), _hex(survey.name_signatures)
        if len(given) == len(idle):  # a passphrase gives several keys
            raise KeyNotFoundError(
                f"this tree has no use for the key {_hex(given)}: its files want {contents}, "
                f"its names {names}",
                "check the key's signature, and of which tree it is",
            )
        raise KeyNotFoundError(
            f"the passphrase does not fit this tree: its files want {contents}, "
            f"its names {names}; the passphrase gives {_hex(given)}",
            "check the passphrase and its salt; the mount passphrase is not the login password",
        )


def _check_may_start(survey: Survey, options: Options) -> None:
    """A new tree is started only where nothing could be mistaken for one, or where options ask for it."""
    if survey.foreign and not (options.passthrough or options.signatures or options.encrypted_view):
        raise TreeError(
            f"the lower directory holds {survey.foreign} plain files and no eCryptfs file",
            "check the path; to start a tree beside plain files, add -o ecryptfs_passthrough",
        )


def _profile(survey: Survey, tokens: dict[bytes, AuthToken]) -> Profile | None:
    """The commonest way in which files that our keys open were made."""
    for profile, _ in survey.profiles.most_common():
        if any(signature in tokens for signature in profile.signatures):
            return profile
    return None


def _content(
    survey: Survey,
    profile: Profile | None,
    candidates: Sequence[Candidates],
    tokens: dict[bytes, AuthToken],
    options: Options,
) -> tuple[AuthToken, ...]:
    if options.signatures:
        return tuple(_named(signature, tokens, "ecryptfs_sig") for signature in options.signatures)
    if profile is not None:
        return tuple(tokens[s] for s in dict.fromkeys(profile.signatures) if s in tokens)
    if survey.profiles:
        raise KeyNotFoundError(
            f"no given key opens the files: they want {_hex(survey.content_signatures)}, "
            f"the keys are {_hex(tokens)}",
            "give the passphrase or key of the file contents too; it may differ from that of the names",
        )
    return tuple(c.content for c in candidates)


def _named(signature: bytes, tokens: dict[bytes, AuthToken], option: str) -> AuthToken:
    token = tokens.get(signature)
    if token is None:
        raise KeyNotFoundError(
            f"{option}={signature.hex()} is not among the keys given: {_hex(tokens)}",
            "give that key, or its passphrase",
        )
    return token


def _cipher(
    name: str | None, key_bytes: int | None, found: CipherChoice | None, default: CipherChoice
) -> CipherChoice:
    """Options first, then what was found, then the default; half an answer is completed if it can be."""
    if name is None and key_bytes is None:
        return found or default
    if name is None:
        assert key_bytes is not None
        return choose(found.spec.name if found else default.spec.name, key_bytes)
    if key_bytes is None:
        if found is not None and found.spec.name == name:
            return found
        sizes = CIPHERS[name].key_sizes if name in CIPHERS else (0,)
        if len(sizes) > 1:
            raise UsageError(
                f"the key size of {name} is not given",
                f"add ecryptfs_key_bytes= with one of {', '.join(map(str, sizes))}",
            )
        key_bytes = sizes[0]
    return choose(name, key_bytes)


def _names(
    survey: Survey,
    candidates: Sequence[Candidates],
    tokens: dict[bytes, AuthToken],
    options: Options,
    content: CipherChoice,
) -> NamePolicy | None:
    if options.encrypt_names is False:
        return None
    token: AuthToken | None = None
    found: CipherChoice | None = None
    for (signature, code), _ in survey.names.most_common():
        if signature in tokens and options.fnek_signature in (None, signature):
            token = tokens[signature]
            proofs = (prove_name_cipher(sample, token) for sample in survey.samples[signature, code])
            found = next(filter(None, proofs), None)
            if found is not None:
                break
    if options.fnek_signature is not None:
        token = _named(options.fnek_signature, tokens, "ecryptfs_fnek_sig")
    elif token is None and survey.names:
        raise KeyNotFoundError(
            f"no given key opens the names: they want {_hex(survey.name_signatures)}, "
            f"the keys are {_hex(tokens)}",
            "give the passphrase or key of the names too; mount -o ecryptfs_enable_filename_crypto=n shows "
            "encrypted names as they are",
        )
    elif token is None and options.encrypt_names is None and (survey.is_ecryptfs or survey.plain_names):
        return None  # encrypting names here would hide what is there
    if token is None:
        token = candidates[0].names
    return NamePolicy(token, _cipher(options.fn_cipher, options.fn_key_bytes, found, content))


def _other_names(
    survey: Survey, candidates: Sequence[Candidates], names: NamePolicy | None
) -> tuple[NamePolicy, ...]:
    """Further FNEKs at hand under which names stand. In the middle of a rekeying, where files are encrypted
    for two passphrases, those of both, seen so far or not."""
    if names is None:
        return ()
    both = [c.names for c in candidates if c.content.signature in survey.content_signatures]
    likely = both if names.token.signature in {token.signature for token in both} else []
    seen = [t for c in candidates for t in c.tokens if t.signature in survey.name_signatures]
    tokens = {token.signature: token for token in (*likely, *seen)}
    tokens.pop(names.token.signature, None)
    return tuple(NamePolicy(t, proven_cipher(survey, t) or names.cipher) for t in tokens.values())


def _remarks(new: bool, profile: Profile | None, policy: Policy) -> tuple[str, ...]:
    remarks = []
    if new:
        names = f"encrypted names ({policy.names.cipher})" if policy.names else "plain names"
        remarks.append(f"new tree: {policy.cipher}, {names}")
    if profile is not None and not policy.read_only:
        missing = [s for s in profile.signatures if policy.token(s) is None]
        if missing:
            remarks.append(f"existing files also open with {_hex(missing)}; new ones will not")
    return tuple(remarks)

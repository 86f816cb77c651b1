"""From what options say about keys to candidates: the keys that a tree may use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from fusecrypt.errors import FusecryptError, KeyNotFoundError, UsageError
from fusecrypt.keys import locate
from fusecrypt.keys.errors import WrongSecretError
from fusecrypt.keys.keyring import find_token
from fusecrypt.keys.raw import read_raw_key, split_assignment
from fusecrypt.keys.slotfile import CONTENT, NAMES, SlotFile
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.synology import unwrap_export
from fusecrypt.keys.token import DEFAULT_SALT, FNEK_SALT, AuthToken
from fusecrypt.keys.unlock import Found
from fusecrypt.keys.wrapped import WrappedPassphrase, read_wrapped
from fusecrypt.native import Secret
from fusecrypt.sources import secrets
from fusecrypt.sources.masters import encrypted_tokens
from fusecrypt.sources.person import ask_secret, describe, say
from fusecrypt.sources.request import Request, unless_unreadable
from fusecrypt.sources.unlock import unlock
from fusecrypt.tree.resolve import Candidates


@dataclass(frozen=True)
class Gathered:
    """The keys at hand, and in words where they came from.

    ``read_only``: they may be forged, so nothing must be written with them. ``unproven`` are the signatures
    of those that nothing but a key-slot file vouches for.
    """

    candidates: Sequence[Candidates]
    source: str
    read_only: bool = False
    unproven: frozenset[bytes] = frozenset()


def gather(request: Request) -> Gathered:
    """All keys at hand.

    Keys in files and on the keyring are taken as they are named. Then each secret is tried as all it can
    be; where nothing is named at all, slots that this TPM opens are tried, and then a secret is asked for.
    Raises UsageError, and other errors with status 3 for what opens nothing.
    """
    given = _given_secrets(request)
    slots = request.slots
    asked = bool(given or slots.keyslots or slots.slot is not None or slots.pin_file)
    asked = asked or request.sources.wrapped_passphrase is not None
    tokens = [_raw_token(argument) for argument in request.sources.raw_key]
    tokens += encrypted_tokens(
        request.sources.encrypted_key,
        request.master,
        request.open_tpm,
        request.survey,
        request.whole_survey,
        request.options.signatures,
    )
    on_keyring = _from_keyring(request) if request.sources.keyring else []
    if not asked:
        on_keyring += _named_on_keyring(request, [*tokens, *on_keyring])
    ask = asked or not (tokens or on_keyring)
    unlocked = _unlock(request, given) if ask else Gathered((), "")
    if asked:
        known = [token for candidate in unlocked.candidates for token in candidate.tokens]
        on_keyring += _named_on_keyring(request, [*tokens, *on_keyring, *known])
    candidates = [*_each_alone(tokens), *unlocked.candidates, *_each_alone(on_keyring)]
    used = {"key file": tokens, unlocked.source: unlocked.candidates, "keyring": on_keyring}
    source = ", ".join(word for word, keys in used.items() if keys)
    return Gathered(candidates, source, unlocked.read_only, unlocked.unproven)


def _each_alone(tokens: Iterable[AuthToken]) -> list[Candidates]:
    return [Candidates(token, token) for token in tokens]


def _given_secrets(request: Request) -> list[Secret]:
    sources, options = request.sources, request.options
    found = [secrets.from_file(path) for path in sources.passfile]
    found += [secrets.from_descriptor(fd) for fd in sources.passphrase_fd]
    found += [secrets.from_command(command) for command in sources.extpass]
    found += [secrets.in_utils_form(secrets.from_file(path)) for path in options.passwd_files]
    found += [secrets.in_utils_form(secrets.from_descriptor(fd)) for fd in options.passwd_fds]
    return found or secrets.from_credentials()


def _raw_token(argument: str) -> AuthToken:
    sig, path = split_assignment(argument)
    return read_raw_key(path, sig)


def _from_keyring(request: Request) -> list[AuthToken]:
    """The keys that options name, or else those that the tree shows. Raises the last refusal if none."""
    wanted = request.named or sorted(request.signatures)
    if not wanted:
        raise UsageError("a new tree does not tell its keys", "name them: mount -o ecryptfs_sig=SIG")
    tokens, refusals = _find_tokens(request, wanted)
    if not tokens:
        for refusal in refusals[:-1]:
            say(describe(refusal))
        raise refusals[-1]
    _say_why_not(refusals)
    return tokens


def _named_on_keyring(request: Request, tokens: Iterable[AuthToken]) -> list[AuthToken]:
    """The keys that options name and that no other source gave, as far as the keyring holds them."""
    known = {token.signature for token in tokens}
    found, refusals = _find_tokens(request, [sig for sig in request.named if sig not in known])
    _say_why_not(refusals)
    return found


def _say_why_not(refusals: Iterable[FusecryptError]) -> None:
    """What is wrong with keys that are on the keyring. That others are not there tells itself."""
    for refusal in refusals:
        if not isinstance(refusal, KeyNotFoundError):
            say(describe(refusal))


def _find_tokens(request: Request, wanted: Iterable[bytes]) -> tuple[list[AuthToken], list[FusecryptError]]:
    tokens: list[AuthToken] = []
    refusals: list[FusecryptError] = []
    for sig in wanted:
        try:
            tokens.append(find_token(sig, lambda text: request.master.unseal(text, request.open_tpm)))
        except FusecryptError as error:
            refusals.append(error)
    return tokens, refusals


def _unlock(request: Request, given: list[Secret]) -> Gathered:
    """The keys that secrets give, or a TPM; the secrets are wiped."""
    explicit = request.sources.wrapped_passphrase
    file = _slot_file(request)
    wrapped = read_wrapped(explicit, request.salt) if explicit else _wrapped_of_home(request)
    if explicit and file is None and wrapped is not None:
        if not given and wrapped.version == 1:
            with suppress(WrongSecretError):  # Synology's: its wrapping passphrase is no secret
                return Gathered([_from_passphrase(request, unwrap_export(wrapped.encode()))], "exported key")
        if not request.signatures:
            return _for_new_tree(request, wrapped, given)
    if file is None and wrapped is None and (given or not request.signatures):
        passphrases = given or [ask_secret("mount passphrase")]
        return Gathered([_from_passphrase(request, each) for each in passphrases], "passphrase")
    found = unlock(
        file,
        request.slots,
        given,
        sigs=request.signatures,
        later=request.later,
        salt=request.salt,
        wrapped=wrapped,
        use_tpm=not given,
    )
    if found.volume is None:
        return Gathered([_candidates(request, found)], found.how)
    unproven = frozenset(held.token.signature for held in found.volume.tokens() if not held.proven)
    source = f"key slots ({found.how})"
    return Gathered([_candidates(request, found)], source, not found.volume.intact, unproven)


def _slot_file(request: Request) -> SlotFile | None:
    """The key-slot file that is named, or the one that is found by the tree's signatures."""
    if request.slots.keyslots is not None:
        return SlotStore(request.slots.keyslots).read()
    named = request.slots.pin_file is not None or request.slots.slot is not None
    if request.sources.wrapped_passphrase is not None and not named:
        return None
    _, file, refusals = locate.find(request.lower, sorted(request.signatures))
    for refusal in refusals:
        say(refusal)
    if file is None and named:
        raise UsageError("no key-slot file of this tree was found", "name it: --keyslots FILE")
    return file


def _wrapped_of_home(request: Request) -> WrappedPassphrase | None:
    path = request.home.wrapped if request.home else None
    return unless_unreadable(lambda: read_wrapped(path, request.salt)) if path else None


def _for_new_tree(request: Request, wrapped: WrappedPassphrase, given: list[Secret]) -> Gathered:
    """The keys of the mount passphrases that secrets unwrap: no tree tells what else a secret could be."""
    passphrases = []
    for secret in given or [ask_secret("login passphrase")]:
        with secret:
            passphrases.append(wrapped.unwrap(secret))
    return Gathered([_from_passphrase(request, each) for each in passphrases], "wrapped passphrase")


def _from_passphrase(request: Request, passphrase: Secret) -> Candidates:
    """A mount passphrase as a content key and as ecryptfs-utils' file-name key; it is wiped."""
    with secrets.check_length(passphrase):
        content = AuthToken.from_passphrase(passphrase, request.salt)
        names = AuthToken.from_passphrase(passphrase, FNEK_SALT)
        if request.sources.salt or request.options.salt or request.salt == DEFAULT_SALT:
            return Candidates(content, names)
        return Candidates(content, names, (AuthToken.from_passphrase(passphrase),))


def _candidates(request: Request, found: Found) -> Candidates:
    """The keys of one secret; which of them a new tree would use is told by the slot file."""
    if found.volume is not None:
        held = found.volume.tokens()
        content = [key.token for key in held if CONTENT in key.use]
        names = [key.token for key in held if NAMES in key.use]
    else:
        home = request.home.signatures if request.home else ()
        content = _of(found.tokens, request.survey.content_signatures or set(home[:1]))
        names = _of(found.tokens, request.survey.name_signatures or set(home[1:]))
    first, *others = [*content, *found.tokens]
    return Candidates(first, (names or [first])[0], tuple(others))


def _of(tokens: Iterable[AuthToken], signatures: Collection[bytes]) -> list[AuthToken]:
    return [token for token in tokens if token.signature in signatures]

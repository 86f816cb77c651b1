"""One tree and what options say about its keys: all that looking for them starts from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fusecrypt.keys import homes
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.sources import secrets
from fusecrypt.sources.given import SlotOptions, Sources
from fusecrypt.sources.lazytpm import open_tpm
from fusecrypt.sources.masters import Master
from fusecrypt.sources.options import MountOptions
from fusecrypt.sources.person import describe, say
from fusecrypt.tree.survey import LIMIT, Survey, Walk

_T = TypeVar("_T")


@dataclass(frozen=True)
class Request:
    """One tree: what options say, where it is (None: not on this machine), what it told so far."""

    sources: Sources
    slots: SlotOptions
    options: MountOptions
    lower: Path | None
    walk: Walk

    @property
    def survey(self) -> Survey:
        """The findings so far: those of the first steps, or more."""
        return self.walk.first_findings()

    @functools.cached_property
    def named(self) -> tuple[bytes, ...]:
        """The signatures that mount options name."""
        fnek = self.options.tree_options().fnek_signature
        return tuple(dict.fromkeys([*self.options.signatures, *([fnek] if fnek else [])]))

    @functools.cached_property
    def signatures(self) -> frozenset[bytes]:
        """The signatures that the tree's files, names and home show, and those that options name."""
        shown = self.survey.content_signatures | self.survey.name_signatures
        return frozenset({*shown, *self.named, *(self.home.signatures if self.home else ())})

    def later(self) -> Iterator[Collection[bytes]]:
        """The signatures that the tree shows while it is walked on, to its end."""
        for found in self.walk:
            yield found.content_signatures | found.name_signatures
            if found.entries >= LIMIT:
                return

    def whole_survey(self) -> Survey:
        """The findings of the whole tree: a key whose place is far inside must not be taken for another."""
        for _ in self.later():
            pass
        return self.survey

    @functools.cached_property
    def home(self) -> homes.Home | None:
        """The layout of ecryptfs-utils that the tree belongs to. What is damaged in it is said."""
        lower = self.lower
        home = unless_unreadable(lambda: homes.recognise(lower)) if lower else None
        shown = self.survey.content_signatures | self.survey.name_signatures
        if home is None or not home.belongs(shown):
            return None
        if home.damage:
            say(home.damage)
        return home

    @functools.cached_property
    def master(self) -> Master:
        """The master key of encrypted keys."""
        given = self.sources
        return Master.parse(
            given.master, given.blobauth_file, given.keyauth_file, given.keyhandle, given.master_pcrs
        )

    @property
    def salt(self) -> bytes:
        """For the content key: from an option, or the user's .ecryptfsrc, or the default."""
        text = self.sources.salt or self.options.salt
        if text:
            return secrets.parse_salt(text)
        return self.home.salt if self.home else homes.salt_of(homes.home_directory() / ".ecryptfsrc")

    def open_tpm(self) -> AbstractContextManager[TPM]:
        """The TPM that options name, or this machine's."""
        return open_tpm(self.slots.tcti)


def unless_unreadable(read: Callable[[], _T]) -> _T | None:
    """What was found by itself must not stand in the way of what was given: say that it is of no use."""
    try:
        return read()
    except KeyFileError as error:
        say(describe(error))
    except OSError as error:
        say(f"{error.filename}: {error.strerror}")
    return None

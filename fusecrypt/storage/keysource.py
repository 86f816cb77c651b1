"""Where keys come from, as the arguments of a file system: names of files and commands, never a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from fusecrypt.sources import options
from fusecrypt.sources.given import KeyOptions, SlotOptions, Sources

_SEVERAL = frozenset(("passfile", "passphrase_fd", "extpass", "encrypted_key", "raw_key"))
_PATHS = frozenset(("wrapped_passphrase", "keyslots", "pcr_signature"))
NAMES = frozenset(field.name for kind in (Sources, SlotOptions) for field in fields(kind))
"""The arguments; they are the long options of `fusecrypt mount` about keys."""


def key_options(given: Mapping[str, Any], words: str) -> KeyOptions:
    """As a command would have got them; ``words`` is what would follow -o. Raises UsageError."""
    values = {name: _value(name, value) for name, value in given.items()}
    return KeyOptions(options.parse([words]), _part(Sources, values), _part(SlotOptions, values))


def only_here(given: Mapping[str, Any], words: str) -> bool:
    """Whether a source exists in this process alone. Raises UsageError."""
    keys = key_options(given, words)
    return bool(keys.sources.passphrase_fd or keys.options.passwd_fds) or "-" in keys.sources.passfile


def _part(kind: type[Any], values: Mapping[str, Any]) -> Any:
    names = [field.name for field in fields(kind)]
    return kind(**{name: values[name] for name in names if name in values})


def _value(name: str, value: Any) -> Any:
    if name in _SEVERAL:
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    return Path(value) if name in _PATHS and value is not None else value

"""The workers of a cluster for a copy: which scheduler, and where they find the keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fusecrypt.errors import UnsupportedSystemError, UsageError
from fusecrypt.offline.copyfile import Workers
from fusecrypt.sources.given import KeyOptions, Sources

_AT_ONCE = 4
"""Files, or batches of small ones, on their way for each thread of a worker: tasks wait for workers, not the
other way round."""
_MOST = 256


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with the options about a cluster; it gets ``dask`` and ``worker_key_command``."""
    help_ = "Where workers take the key: the first line CMD prints there."
    decorated = click.option("--worker-key-command", metavar="CMD", help=help_)(command)
    help_ = "Have the workers of a Dask cluster carry contents."
    return click.option("--dask", metavar="SCHEDULER", help=help_)(decorated)


@contextmanager
def workers_of(
    scheduler: str | None, key_command: str | None, lower: Path, keys: KeyOptions
) -> Iterator[Workers]:
    """The workers of a scheduler, or threads of this process where none is named.

    Raises UsageError for a scheduler that must not be used, and for keys that workers cannot find;
    UnsupportedSystemError for a cluster that cannot do it, and what a worker raises that finds no key.
    """
    if scheduler is None:
        if key_command is not None:
            raise UsageError(
                "--worker-key-command is for --dask", "leave it out, or name the scheduler: --dask ADDRESS"
            )
        yield Workers(len(os.sched_getaffinity(0)))
        return
    there = _for_workers(keys, key_command)
    try:
        from fusecrypt.offline.cluster import cluster
    except ModuleNotFoundError as error:
        raise UnsupportedSystemError(f"{error.name} is missing", "pip install 'fusecrypt[dask]'") from None
    with cluster(scheduler, os.path.realpath(lower), there) as found:
        yield Workers(min(_AT_ONCE * found.threads, _MOST), found.carry, found.carry_many)


def _for_workers(keys: KeyOptions, command: str | None) -> KeyOptions:
    """Where a worker finds the keys that this process was given. Raises UsageError."""
    sources = keys.sources
    if command is not None:
        return replace(keys, sources=Sources(extpass=(command,), salt=sources.salt))
    if sources.passphrase_fd or keys.options.passwd_fds or "-" in sources.passfile:
        raise UsageError(
            "workers cannot read this process's descriptors",
            "name a file that each of them has, or --worker-key-command CMD",
        )
    sources = replace(
        sources,
        passfile=tuple(map(os.path.abspath, sources.passfile)),
        wrapped_passphrase=_absolute(sources.wrapped_passphrase),
    )
    return replace(keys, sources=sources, slots=replace(keys.slots, keyslots=_absolute(keys.slots.keyslots)))


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()

"""Command groups whose commands are imported when they are used: a start pays for one command only."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group made from tables: the name of each command, and its place as ``module:attribute``.

    The help text shows each table under its title.
    """

    def __init__(self, *arguments: Any, places: Mapping[str, Mapping[str, str]], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._sections = places
        self._places = {name: place for section in places.values() for name, place in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now."""
        if cmd_name not in self._places:
            return None
        module, _, attribute = self._places[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names. Raises click.UsageError, with the name that may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self._places, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections of the help text, with their texts below one another."""
        width = max(map(len, self._places))
        for title, names in self._sections.items():
            commands = {name: self.get_command(ctx, name) for name in names}
            with formatter.section(title):
                limit = formatter.width - width - 6
                formatter.write_dl(
                    [
                        (name.ljust(width), each.get_short_help_str(limit))
                        for name, each in commands.items()
                        if each
                    ]
                )

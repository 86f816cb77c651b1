"""Manual pages from click's commands: what --help says, laid out as a page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from fusecrypt import __version__
from fusecrypt.cli.main import fusecrypt
from fusecrypt.cli.mount_helper import mount_helper
from manual import markdown
from manual.roff import bold, escape, heading, inline, items, paragraph, subheading, title, verbatim

_ROOT = Path(__file__).parents[1]
_STATUSES = "Exit statuses"


def pages() -> dict[str, str]:
    """All pages by the names of their files."""
    main = click.Context(fusecrypt, info_name="fusecrypt", **fusecrypt.context_settings)
    helper = click.Context(mount_helper, info_name="mount.fuse.fusecrypt", **mount_helper.context_settings)
    found = {"fusecrypt.1": _overview(main), "mount.fuse.fusecrypt.8": _page(helper, 8)}
    for context in _commands(main):
        found[f"{_name(context)}.1"] = _page(context, 1)
    found["fusecrypt-keyslots.5"] = _keyslots()
    return found


def _commands(group: click.Context) -> Iterator[click.Context]:
    assert isinstance(group.command, click.Group)
    for name in group.command.list_commands(group):
        command = group.command.get_command(group, name)
        assert command is not None
        yield click.Context(command, info_name=name, parent=group)


def _below(context: click.Context) -> Iterator[click.Context]:
    """All commands below a group, groups before what is in them; none below a command."""
    if isinstance(context.command, click.Group):
        for each in _commands(context):
            yield each
            yield from _below(each)


def _overview(main: click.Context) -> str:
    listed = items((f"{bold(_name(each))}(1)", inline(_short(each))) for each in _commands(main))
    by_hand = (_ROOT / "manual" / "fusecrypt.md").read_text()
    return _page(main, 1) + heading("COMMANDS") + listed + markdown.to_roff(by_hand)


def _page(context: click.Context, section: int) -> str:
    """One command; or a group, with all that is below it."""
    name = _name(context)
    text = title(name, section, __version__) + heading("NAME")
    text += f"{escape(name)} \\- {inline(_short(context))}\n" + heading("SYNOPSIS")
    below = [] if name == "fusecrypt" else list(_below(context))
    leaves = [each for each in below if not isinstance(each.command, click.Group)]
    text += "".join(_synopsis(each) for each in (leaves or [context]))
    description, statuses = _help(context)
    text += heading("DESCRIPTION") + description
    if below:
        text += heading("COMMANDS")
        for each in below:
            text += subheading(each.command_path) + "".join(_help(each)) + _options(each)
    else:
        text += heading("OPTIONS") + _options(context)
    if statuses:
        text += heading("EXIT STATUS") + statuses
    if name != "fusecrypt":
        text += heading("SEE ALSO") + paragraph(f"{bold('fusecrypt')}(1)")
    return text


def _name(context: click.Context) -> str:
    """What its page is called."""
    return context.command_path.replace(" ", "-")


def _short(context: click.Context) -> str:
    """What a list of commands says of it; or the first paragraph of the help text, whole."""
    first = context.command.short_help or inspect.cleandoc(context.command.help or "").partition("\n\n")[0]
    return " ".join(first.split()).removesuffix(".")


def _synopsis(context: click.Context) -> str:
    usage = " ".join(context.command.collect_usage_pieces(context))
    return paragraph(f"{bold(context.command_path)} {escape(usage)}")


def _help(context: click.Context) -> tuple[str, str]:
    """The help text, and what it says of exit statuses."""
    text, statuses = "", ""
    for block in inspect.cleandoc(context.command.help or "").split("\n\n"):
        if block.startswith("\b"):
            text += verbatim(block.removeprefix("\b\n"))
        elif block.startswith(_STATUSES):
            statuses += paragraph(inline(block.removeprefix(_STATUSES).lstrip(": ")))
        else:
            text += paragraph(inline(block))
    return text, statuses


def _options(context: click.Context) -> str:
    records = [option.get_help_record(context) for option in context.command.get_params(context)]
    return items((bold(record[0]), inline(record[1])) for record in records if record)


def _keyslots() -> str:
    """The section on the file in docs/keys.md."""
    name = "fusecrypt-keyslots"
    text = markdown.section((_ROOT / "docs" / "keys.md").read_text(), "The key-slot file")
    return (
        title(name, 5, __version__)
        + heading("NAME")
        + f"{escape(name)} \\- the keys of a tree, and the slots that open them\n"
        + heading("DESCRIPTION")
        + markdown.to_roff(text)
        + heading("SEE ALSO")
        + paragraph(f"{bold('fusecrypt')}(1), {bold('fusecrypt-key')}(1)")
    )

"""The table of commands: each is there, and a start imports no more than its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fusecrypt.cli.key import key
from fusecrypt.cli.main import fusecrypt

_GROUPS: dict[str, click.Group] = {"fusecrypt": fusecrypt, "key": key}


@pytest.mark.parametrize("group", list(_GROUPS))
def test_each_command_has_its_name_and_a_help_text(group: str) -> None:
    context = click.Context(_GROUPS[group])
    names = _GROUPS[group].list_commands(context)
    assert len(names) > 2
    for name in names:
        command = _GROUPS[group].get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str()
    assert _GROUPS[group].get_command(context, "no-such-command") is None


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["--version"], ["fusecrypt.cli.mount", "fusecrypt.cli.key", "fusecrypt.keys", "cryptography"]),
        (["mount", "--help"], ["fusecrypt.cli.key", "pyfuse3", "trio", "tpm2_pytss"]),
        (
            ["ls", "--help"],
            ["fusecrypt.cli.mount", "fusecrypt.mount", "pyfuse3", "trio", "rich", "tpm2_pytss"],
        ),
        (["identify", "--help"], ["fusecrypt.sources.gather", "fusecrypt.mount", "pyfuse3", "tpm2_pytss"]),
        (["umount", "--help"], ["fusecrypt.cli.mount", "fusecrypt.keys", "cryptography"]),
        (["key", "list", "--help"], ["fusecrypt.cli.mount", "fusecrypt.cli.key.create", "tpm2_pytss"]),
    ],
)
def test_a_start_imports_its_own_command_only(words: list[str], absent: list[str]) -> None:
    program = (
        "import sys; from fusecrypt.cli.main import fusecrypt\n"
        "fusecrypt.main(sys.argv[1:], standalone_mode=False)\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True, timeout=60
    )
    imported = done.stderr.split("\n")
    assert "fusecrypt.cli.main" in imported
    assert not set(absent) & set(imported)


def _leaves(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """All commands that do something, with their full names."""
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _leaves(command, f"{name}{word} ")
        else:
            yield f"{name}{word}", command


@pytest.mark.parametrize(("name", "command"), tuple(_leaves(key, "key ")), ids=lambda value: str(value))
def test_each_key_command_and_option_is_described(name: str, command: click.Command) -> None:
    text = Path(__file__).parents[2].joinpath("docs", "keys.md").read_text()
    assert re.search(rf"^\| `{name}\b", text, re.MULTILINE), f"docs/keys.md does not describe {name}"
    options = {each for option in command.params for each in option.opts if each.startswith("--")}
    assert options
    for option in options:
        assert re.search(rf"`{option}\b", text), f"docs/keys.md does not describe {name} {option}"


def test_each_option_of_mount_is_described() -> None:
    text = "".join(
        Path(__file__).parents[2].joinpath(*p).read_text() for p in (["README.md"], ["docs", "keys.md"])
    )
    (command,) = (command for name, command in _leaves(fusecrypt, "") if name == "mount")
    for option in command.params:
        for each in option.opts:
            assert f"`{each}" in text or not each.startswith("-"), f"{each} is not described"

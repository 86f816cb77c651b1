"""Manual pages, completions and --help say the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from fusecrypt.cli.main import fusecrypt
from manual.pages import pages
from tests.cli.key.terminal import talk
from tests.mount.support import PROGRAM, mounted

ROOT = Path(__file__).parents[2]
MAIN = click.Context(fusecrypt, info_name="fusecrypt", **fusecrypt.context_settings)
_VARIABLE = "_FUSECRYPT_COMPLETE"


def all_commands(group: click.Context) -> list[click.Context]:
    """A group with all commands below it."""
    assert isinstance(group.command, click.Group)
    found = [group]
    for name in group.command.list_commands(group):
        command = group.command.get_command(group, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=group)
        found += all_commands(context) if isinstance(command, click.Group) else [context]
    return found


def words(text: str) -> str:
    return " ".join(text.replace("`", "").split())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("manual")
    subprocess.run([sys.executable, "-m", "manual", made], check=True, cwd=ROOT)
    return made


@pytest.fixture(scope="module")
def shown(directory: Path) -> dict[str, str]:
    """Each page as man(1) shows it, in one line."""
    environment = {**os.environ, "MANWIDTH": "5000", "MANROFFOPT": "", "LC_ALL": "C.UTF-8"}
    found = {}
    for path in directory.glob("man/man?/*"):
        command: list[str | Path] = ["man", "--warnings", "--nh", "--nj", "-E", "UTF-8", "-l", path]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert done.stderr == "", path
        found[path.name] = words(re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout))
    return found


def test_a_page_for_each_command_and_nothing_else(shown: dict[str, str]) -> None:
    names = {each.info_name for each in all_commands(MAIN) if each.parent is MAIN}
    wanted = {f"fusecrypt-{name}.1" for name in (*names, "key", "manifest")}
    assert set(shown) == wanted | {"fusecrypt.1", "fusecrypt-keyslots.5", "mount.fuse.fusecrypt.8"}
    for name in wanted:
        assert f"{name.removesuffix('.1')}(1)" in shown["fusecrypt.1"]


@pytest.mark.parametrize("context", all_commands(MAIN), ids=lambda context: context.command_path)
def test_page_help_and_completion(context: click.Context, shown: dict[str, str]) -> None:
    """Every word of a help text is in the page; every option is in it, and is completed."""
    path = context.command_path.split()
    page = shown["-".join(path[:2]) + ".1"]
    text = (context.command.help or "").replace("\b\n", "")
    for block in text.split("\n\n"):
        assert words(block).removeprefix("Exit statuses: ") in page
    helped = context.get_help()
    complete = BashComplete(fusecrypt, {}, "fusecrypt", _VARIABLE)
    completed = {item.value for item in complete.get_completions(path[1:], "--")}
    for option in context.command.get_params(context):
        record = option.get_help_record(context)
        if record is not None:
            assert record[0] in helped
            assert f"{words(record[0])} {words(record[1])}" in page
            assert {each for each in option.opts if each.startswith("--")} <= completed
    if isinstance(context.command, click.Group):
        names = set(context.command.list_commands(context))
        assert {item.value for item in complete.get_completions(path[1:], "")} == names
        for each in all_commands(context):
            if each.parent is context:
                short = f"{each.info_name} +{re.escape(each.command.short_help or '')}"
                assert re.search(rf"^  {short}$", helped, re.MULTILINE)
                if context is MAIN:
                    assert f"(1) {words(each.command.short_help or '').removesuffix('.')} " in page


def test_keyslots_page_has_the_section_of_the_docs(shown: dict[str, str]) -> None:
    page = shown["fusecrypt-keyslots.5"]
    for text in (
        "Format, version 1",
        '{"format": "fusecrypt-keyslots", "version": 1,',
        "PolicyAuthValue with a PIN.",
    ):
        assert text in page
    assert "Threat model" not in page


def test_pages_are_the_same_each_time() -> None:
    assert pages() == pages()


@pytest.fixture(scope="module")
def completions(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What stands on a line before a completion, and behind it."""
    place = tmp_path_factory.mktemp("completions")
    with mounted(place / "lower") as mount:
        yield {
            "fusecrypt umo": "umount",
            "fusecrypt key add tp": "tpm2",
            "fusecrypt mount --keysl": "--keyslots",
            f"fusecrypt umount {place}/low": str(mount.path),
        }


ENVIRONMENT = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "TERM": "vt100"}


def shown_by(shell: str, script: str) -> str:
    """What a shell prints."""
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stderr == ""
    return done.stdout


def test_bash(directory: Path, completions: dict[str, str]) -> None:
    """A real bash completes commands, options, and mount points."""
    for line, expected in completions.items():
        script = (
            f"source {directory}/completions/bash/fusecrypt; COMP_WORDS=({line}); "
            "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _fusecrypt_completion fusecrypt; echo ${COMPREPLY[@]}"
        )
        assert shown_by("bash", script) == f"{expected}\n"


def test_fish(directory: Path, completions: dict[str, str]) -> None:
    for line, expected in completions.items():
        script = f"source {directory}/completions/fish/fusecrypt.fish; complete -C '{line}'"
        assert shown_by("fish", script).split("\t")[0].rstrip() == expected


ZSHRC = """
fpath=({}/completions/zsh $fpath)
autoload -Uz compinit && compinit -u -d $ZDOTDIR/dump
show() {{ [[ $BUFFER == exit ]] || {{ PS1="saw <$BUFFER>: "; BUFFER=; }}; zle .accept-line }}
zle -N show && bindkey '^J' show
PS1='begin: '
"""
"""Return shows the line in the next prompt, instead of running it."""


def test_zsh(directory: Path, completions: dict[str, str], tmp_path: Path) -> None:
    """Somebody presses Tab."""
    (tmp_path / ".zshrc").write_text(ZSHRC.format(directory))
    typed, prompt = [], "begin: "
    for line, expected in completions.items():
        typed.append((prompt, f"{line}\t"))
        prompt = f"saw <{line.rpartition(' ')[0]} {expected} >: "
    typed.append((prompt, "exit"))
    environment = {**ENVIRONMENT, "ZDOTDIR": str(tmp_path)}
    assert talk(["zsh", "-d", "-i"], typed, cwd=tmp_path, env=environment)[0] == 0

"""``python -m manual DIR``: write the pages to DIR/man and the shells' completions to DIR/completions."""

from __future__ import annotations

import sys
from pathlib import Path

from click.shell_completion import get_completion_class

from fusecrypt.cli.main import fusecrypt
from manual.pages import pages

SHELLS = {"bash": "fusecrypt", "zsh": "_fusecrypt", "fish": "fusecrypt.fish"}
"""The file's name in each shell's own directory of completions."""


def completions() -> dict[str, str]:
    """What each shell has to read, by shell. click makes it; it asks the program at each completion."""
    found = {}
    for shell in SHELLS:
        maker = get_completion_class(shell)
        assert maker is not None
        found[shell] = maker(fusecrypt, {}, "fusecrypt", "_FUSECRYPT_COMPLETE").source()
    # As a file that zsh loads by itself click's completes at the first call, and not at the second.
    functions, _, _ = found["zsh"].partition("if [[ $zsh_eval_context")
    found["zsh"] = f'{functions}_fusecrypt_completion "$@"'
    return found


def main(directory: Path) -> None:
    """Write everything."""
    for name, text in pages().items():
        place = directory / "man" / f"man{name[-1]}"
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    for shell, text in completions().items():
        place = directory / "completions" / shell
        place.mkdir(parents=True, exist_ok=True)
        (place / SHELLS[shell]).write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

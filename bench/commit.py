"""Which state of the project is measured."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit that is measured, with a plus sign if sources of the program have changed since."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
        return result.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../fusecrypt", "../native")
        return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")
    except FileNotFoundError:
        return "unknown"

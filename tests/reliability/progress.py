"""How far a long run has come, in a file: one that was interrupted goes on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability.cycles import Figures


class OtherRunError(Exception):
    """The file is of another run."""


@dataclass
class Progress:
    """``asked`` is what a run was asked for and what it does again; ``parts`` counts its beginnings, each of
    which has a tree and a seed of its own; ``seconds`` is how long it worked."""

    path: Path
    asked: dict[str, Any]
    parts: int = 0
    seconds: float = 0.0
    figures: Figures = field(default_factory=Figures)

    @classmethod
    def read(cls, path: Path, asked: dict[str, Any]) -> Progress:
        """What is left of a run, or a new one. Raises OtherRunError."""
        try:
            known = json.loads(path.read_text())
        except FileNotFoundError:
            return cls(path, asked)
        if known["asked"] != asked:
            raise OtherRunError(f"{path} is of a run with {known['asked']}: remove it, or name another file")
        return cls(path, asked, known["parts"], known["seconds"], Figures(**known["figures"]))

    def write(self) -> None:
        """Whole or not at all."""
        known = {
            "asked": self.asked,
            "parts": self.parts,
            "seconds": self.seconds,
            "figures": asdict(self.figures),
        }
        draft = self.path.with_suffix(".new")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(known))
        os.replace(draft, self.path)

    def end(self) -> None:
        """Nothing is left to do."""
        self.path.unlink(missing_ok=True)

"""The lower directory itself: what no encryption at all would cost."""

from __future__ import annotations

import platform
from pathlib import Path

from fusecrypt.measure.contender import Contender, Place


class Bare(Contender):
    name = "bare"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return platform.release()

    def work(self, place: Place) -> Path:
        return place.lower

    def mount(self, place: Place) -> None:
        pass

    def unmount(self, place: Place) -> None:
        pass

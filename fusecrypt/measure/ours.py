"""fusecrypt as it is built in this checkout: AES-256, encrypted names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fusecrypt.measure.contender import Contender, Place


class Fusecrypt(Contender):
    name = "fusecrypt"
    program = str(Path(sys.executable).with_name("fusecrypt"))

    def mount(self, place: Place) -> None:
        passfile = str(place.passfile)
        self.run([self.program, "mount", "--passfile", passfile, str(place.lower), str(place.upper)], place)

    def unmount(self, place: Place) -> None:
        if os.path.ismount(place.upper):
            self.run([self.program, "umount", str(place.upper)], place)

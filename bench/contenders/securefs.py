"""securefs in its default format: AES-GCM, encrypted names."""

from __future__ import annotations

import subprocess

from fusecrypt.measure.contender import PASSPHRASE, Contender, Place


class Securefs(Contender):
    name = "securefs"
    program = "securefs"
    dear_mount = True  # its Argon2 takes seconds, to create and to mount

    def version(self) -> str:
        """Debian's, since the program does not know its own."""
        command = ["dpkg-query", "-W", "-f", "${Version}", self.program]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.stdout or "unknown"

    def create(self, place: Place) -> None:
        self.run([self.program, "create", "--pass", PASSPHRASE, str(place.lower)], place)

    def mount(self, place: Place) -> None:
        places = [str(place.lower), str(place.upper)]
        self.run([self.program, "mount", "-b", "--pass", PASSPHRASE, *places], place)
        self.wait_for_mount(place)

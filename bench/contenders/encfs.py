"""EncFS in its standard mode: AES-192 in CBC, encrypted names."""

from __future__ import annotations

from fusecrypt.measure.contender import PASSPHRASE, Contender, Place


class Encfs(Contender):
    name = "encfs"
    program = "encfs"

    def mount(self, place: Place) -> None:
        places = [str(place.lower), str(place.upper)]
        self.run([self.program, "--stdinpass", "--standard", *places], place, stdin=PASSPHRASE + "\n")
        self.wait_for_mount(place)

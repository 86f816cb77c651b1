"""securefs in its default format: AES-GCM, encrypted names."""

from __future__ import annotations

from bench.contenders.base import PASSPHRASE, Contender, Place


class Securefs(Contender):
    name = "securefs"
    program = "securefs"
    version_arguments = ("version",)

    def create(self, place: Place) -> None:
        self.run([self.program, "create", "--pass", PASSPHRASE, str(place.lower)], place)

    def mount(self, place: Place) -> None:
        places = [str(place.lower), str(place.upper)]
        self.run([self.program, "mount", "-b", "--pass", PASSPHRASE, *places], place)
        self.wait_for_mount(place)

"""gocryptfs: AES-GCM, encrypted names."""

from __future__ import annotations

from fusecrypt.measure.contender import Contender, Place


class Gocryptfs(Contender):
    name = "gocryptfs"
    program = "gocryptfs"
    version_arguments = ("-version",)

    def create(self, place: Place) -> None:
        self.run([self.program, "-q", "-init", "-passfile", str(place.passfile), str(place.lower)], place)

    def mount(self, place: Place) -> None:
        passfile = str(place.passfile)
        self.run([self.program, "-q", "-passfile", passfile, str(place.lower), str(place.upper)], place)

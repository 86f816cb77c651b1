"""CryFS: everything in blocks of 16 KiB that hide the shape of the tree."""

from __future__ import annotations

from fusecrypt.measure.contender import PASSPHRASE, Contender, Place


class Cryfs(Contender):
    name = "cryfs"
    program = "cryfs"
    dear_mount = True  # its scrypt takes many seconds

    def mount(self, place: Place) -> None:
        environment = {
            "CRYFS_FRONTEND": "noninteractive",
            "CRYFS_NO_UPDATE_CHECK": "true",
            "CRYFS_LOCAL_STATE_DIR": str(place.directory / "state"),
        }
        self.run([self.program, str(place.lower), str(place.upper)], place, PASSPHRASE + "\n", environment)
        self.wait_for_mount(place)

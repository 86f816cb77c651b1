"""The contenders, one file each."""

from __future__ import annotations

from bench.contenders.cryfs import Cryfs
from bench.contenders.encfs import Encfs
from bench.contenders.gocryptfs import Gocryptfs
from bench.contenders.securefs import Securefs
from fusecrypt.measure.bare import Bare
from fusecrypt.measure.contender import Contender, Place
from fusecrypt.measure.ours import Fusecrypt
from fusecrypt.measure.results import FLOOR, OURS

REFERENCE = Gocryptfs.name
"""The rival that ratios are given to, besides the best one."""

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (Fusecrypt(), Gocryptfs(), Securefs(), Encfs(), Cryfs(), Bare())
}

__all__ = ["CONTENDERS", "FLOOR", "OURS", "REFERENCE", "Contender", "Place"]

"""The contenders, one file each."""

from __future__ import annotations

from bench.contenders.bare import Bare
from bench.contenders.base import Contender, Place
from bench.contenders.cryfs import Cryfs
from bench.contenders.encfs import Encfs
from bench.contenders.fusecrypt import Fusecrypt
from bench.contenders.gocryptfs import Gocryptfs
from bench.contenders.securefs import Securefs

OURS = Fusecrypt.name
REFERENCE = Gocryptfs.name
"""The rival that ratios are given to, besides the best one."""
FLOOR = Bare.name
"""No rival: what the directory below does by itself."""

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (Fusecrypt(), Gocryptfs(), Securefs(), Encfs(), Cryfs(), Bare())
}

__all__ = ["CONTENDERS", "FLOOR", "OURS", "REFERENCE", "Contender", "Place"]

"""Build fusecrypt._native from the C files beside this one (cffi, API mode).

cffi releases the GIL around every call into an API mode module, so a thread that encrypts or waits
for a disk stops no other.

With ``FUSECRYPT_DEBUG=1`` in the environment the module is built without optimisation and with
symbols; ``make -C native debug`` does that in place.
"""

import os
import re
from pathlib import Path

from cffi import FFI

# Relative to setup.py, which is where setuptools looks for sources.
NATIVE = Path("native")
INTEL_HEADER = Path("intel-ipsec-mb.h")
DEBUG = os.environ.get("FUSECRYPT_DEBUG", "") not in ("", "0")

COMPILE = [
    "-std=c11",
    "-Wall",  # the usual mistakes
    "-Wextra",  # and some more
    "-Wconversion",  # lengths that lose bits on the way
    "-Wno-sign-conversion",  # cffi's generated code converts signs; native/Makefile checks ours
    "-Wshadow",  # a name that hides another
    "-Wvla",  # no stack whose size a caller chooses
    "-Wno-unused-parameter",  # cffi's wrappers of functions without arguments
    "-fvisibility=hidden",  # the module shows its initialisation to Python, nothing else
    "-fstack-protector-strong",  # an overrun buffer ends the process instead of going on
    *(["-O0", "-g"] if DEBUG else ["-O2"]),
]
LINK = [
    "-Wl,-z,relro,-z,now",  # function pointers of other libraries are read-only once loaded
]


def has_ipsec_mb() -> bool:
    """Whether Intel's library can be compiled against; it has no pkg-config file."""
    folders = [Path("/usr/include"), Path("/usr/local/include")]
    folders += [Path(part) for part in os.environ.get("CPATH", "").split(":") if part]
    return any((folder / INTEL_HEADER).exists() for folder in folders)


def declarations() -> str:
    """The header without its preprocessor lines, except the constants."""
    text = (NATIVE / "fusecrypt.h").read_text()
    return re.sub(r"^#(?!define \w+ \d+\b).*\n", "", text, flags=re.MULTILINE)


def make() -> FFI:
    ipsec_mb = has_ipsec_mb()
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        "fusecrypt._native",
        '#include "fusecrypt.h"',
        sources=sorted(str(path) for path in NATIVE.glob("*.c")),
        include_dirs=[str(NATIVE)],
        libraries=["gcrypt", *(["IPSec_MB"] if ipsec_mb else [])],
        define_macros=[("_GNU_SOURCE", "1"), *([("FC_IPSEC_MB", "1")] if ipsec_mb else [])],
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
    )
    return ffi


ffi = make()

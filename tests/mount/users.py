"""Other users: small statements run under other ids, and the program where they can reach it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PYTHON = "/usr/bin/python3"
"""The system's own: other users may not reach the checkout's."""
_CHILD = """
import errno, os, stat, sys
from pathlib import Path
os.umask(int(sys.argv[2], 8))
try:
    os.chdir(sys.argv[1])
    print(repr(eval(sys.argv[3])))
except OSError as error:
    print(repr(("OSError", error.errno)))
"""


@dataclass(frozen=True)
class User:
    """Somebody by ids alone; no account is needed."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @property
    def ids(self) -> dict[str, Any]:
        """For subprocess."""
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}

    def does(self, expression: str, where: Path, umask: int = 0o022) -> object:
        """Evaluate an expression (os, stat and Path are there) as this user in a directory.

        Its value comes back, or its OSError is raised here.
        """
        command = [PYTHON, "-I", "-S", "-c", _CHILD, str(where), oct(umask)[2:], expression]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", **self.ids)
        value = ast.literal_eval(done.stdout)
        if isinstance(value, tuple) and value[:1] == ("OSError",):
            raise OSError(value[1], os.strerror(value[1]))
        return value


def program_for_others(directory: Path) -> Path:
    """The program in a place that every user reaches, wherever the checkout is.

    A virtual environment of its own in ``directory`` looks at the checkout through a bind mount, which is
    to be unmounted afterwards: ``directory / "checkout"``.
    """
    checkout = Path(__file__).parents[2]
    seen = directory / "checkout"
    seen.mkdir()
    subprocess.run(["mount", "-o", "bind,ro", checkout, seen], check=True)  # ro: nothing may clear it away
    environment = directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = Path(sysconfig.get_path("purelib")).relative_to(checkout)
    site = environment / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (site / "others.pth").write_text(f"{seen}\n{seen / packages}\n")
    program = environment / "bin" / "fusecrypt"
    program.write_text(f"#!{environment}/bin/python\nfrom fusecrypt.cli.main import main\nmain()\n")
    program.chmod(0o755)
    return program

"""pipx and uv, with the packages that README.md lists: from an sdist and a wheel, for a TPM or without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt import __version__
from tests import golden
from tests.package.conftest import temporary
from tests.package.roots import PROJECT, Root, bare, checkout

pytestmark = pytest.mark.full
USE = """
set -e
PATH=/root/.local/bin:$PATH
fusecrypt --version
fusecrypt mount --passfile /srv/pass /srv/lower /srv/up
cat /srv/up/hello.txt
fusecrypt umount /srv/up
fusecrypt doctor || test $? = 1
"""


@pytest.fixture(scope="module")
def root(release: str) -> Iterator[Root]:
    """With both installers, a tree, and /dist, where the sdist and the wheel are."""
    with temporary() as directory:
        root = bare(release, directory / "root")
        (listed,) = re.findall(r"^apt install (.*pipx.*)$", (PROJECT / "README.md").read_text(), re.MULTILINE)
        root.install(*listed.split(), "git")
        checkout(root)
        root.run("pipx", "run", "build", "--outdir", "/dist", "/project")
        root.run("pipx", "install", "uv")
        golden.tree("aes32").unpack(root.path / "srv/lower")
        (root.path / "srv/up").mkdir()
        root.put("srv/pass", "cipher aes\n")
        yield root


@pytest.mark.parametrize(("kind", "extra"), [("*.tar.gz", "[tpm]"), ("*.whl", "")])
@pytest.mark.parametrize("installer", [("pipx",), ("/root/.local/bin/uv", "tool")], ids=["pipx", "uv"])
def test_install(installer: tuple[str, ...], kind: str, extra: str, root: Root) -> None:
    (file,) = (root.path / "dist").glob(kind)
    root.run(*installer, "install", f"/dist/{file.name}{extra}")
    used = root.run("sh", "-c", USE)
    assert used.startswith(f"fusecrypt, version {__version__}\nhello")
    assert ("a TPM needs tpm2-pytss" in used) == (not extra)
    root.run(*installer, "uninstall", "fusecrypt")
    assert not Path(root.path, "root/.local/bin/fusecrypt").is_symlink()

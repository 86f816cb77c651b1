"""pipx and uv, with the packages of README.md: from a checkout, sdist and wheel, with or without [tpm]."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt import __version__
from tests import golden
from tests.docs.reader import the_block
from tests.package.conftest import temporary
from tests.package.roots import Root, bare, checkout

pytestmark = pytest.mark.full
APT, PIPX = the_block("../README.md", "sh install").splitlines()
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
        root.install("git")
        root.put("etc/apt/apt.conf.d/yes", 'APT::Get::Assume-Yes "true";\n')
        root.run("sh", "-c", APT)
        checkout(root)
        root.run("pipx", "run", "build", "--outdir", "/dist", "/project")
        root.run("pipx", "install", "uv")
        golden.tree("aes32").unpack(root.path / "srv/lower")
        (root.path / "srv/up").mkdir()
        root.put("srv/pass", "cipher aes\n")
        yield root


def test_a_checkout(root: Root) -> None:
    """The line of README.md, where the checkout is."""
    root.run("sh", "-c", f"cd /project && {PIPX}")
    used = root.run("sh", "-c", USE)
    assert "hello" in used
    assert "a TPM needs tpm2-pytss" not in used
    root.run("pipx", "uninstall", "fusecrypt")


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

"""The sdist and the wheel that is made of it, installed into a fresh environment, beside no sources."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from fusecrypt import __version__
from tests import golden
from tests.mount.support import run

ROOT = Path(__file__).parents[2]
SOURCES = ("fusecrypt", "native", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md")


def _call(*command: str | Path, where: Path) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed program. Its dependencies are the test run's own: no network is needed."""
    place = tmp_path_factory.mktemp("wheel")
    checkout = place / "checkout"
    checkout.mkdir()
    built = shutil.ignore_patterns("*.so", "_native.c", "__pycache__", "*.o")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, checkout / name, ignore=built)
        else:
            shutil.copy(ROOT / name, checkout)
    _call(sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", place, where=checkout)
    (sdist,) = place.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "--quiet")
    _call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", sdist, where=place)
    (wheel,) = place.glob("*.whl")
    assert wheel.name.startswith(f"fusecrypt-{__version__}-")
    _call(sys.executable, "-m", "venv", "--without-pip", "new", where=place)
    site = place / "new" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    words = ("--python", place / "new/bin/python", "install", "--no-deps", "--no-index", wheel)
    _call(*pip, *words, where=place)
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    shutil.rmtree(checkout)
    return place / "new/bin/fusecrypt"


@pytest.mark.full
def test_it_is_the_installed_one(program: Path) -> None:
    assert run("--version", program=program).stdout == f"fusecrypt, version {__version__}\n"
    done = subprocess.run(
        [program.with_name("python"), "-c", "import fusecrypt.lane as m; print(m.__file__)"],
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    assert Path(done.stdout).is_relative_to(program.parents[1])


@pytest.mark.full
def test_it_mounts(program: Path, tmp_path: Path) -> None:
    tree = golden.tree("aes32")
    lower = tree.unpack(tmp_path / "lower")
    (tmp_path / "up").mkdir()
    (tmp_path / "pass").write_text("cipher aes\n")
    run("mount", "--passfile", tmp_path / "pass", lower, tmp_path / "up", program=program)
    assert (tmp_path / "up/hello.txt").read_text().startswith("hello")
    run("umount", tmp_path / "up", program=program)


@pytest.mark.full
@pytest.mark.parametrize("name", ["mount.fuse.fusecrypt", "mount.fusecrypt"])
def test_helpers_are_installed(program: Path, name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [program.with_name(name), tmp_path, tmp_path / "none", "-o", "passfile=/none"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "is no directory" in done.stderr) == (1, True), done.stderr


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {path.parent.relative_to(ROOT) for path in (ROOT / "fusecrypt").rglob("__init__.py")}
    assert set(listed) == {".".join(path.parts) for path in there}


def test_the_changelog_knows_this_version() -> None:
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()

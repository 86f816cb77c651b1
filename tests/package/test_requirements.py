"""What is used of PyPI is pinned with hashes, complete, and what the tests run with."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
RUN = PROJECT["project"]["dependencies"]
SDISTS = PROJECT["dependency-groups"]["sdists"]
WANTED = {
    "dev": [*RUN, *EXTRAS["tpm"], *EXTRAS["dev"], *SDISTS, *PROJECT["build-system"]["requires"]],
    "sdists": SDISTS,
    "run": [*RUN, *EXTRAS["tpm"], *EXTRAS["qr"]],
}


def pins(name: str) -> Iterator[tuple[Requirement, str]]:
    """The packages of a list, and what stands below each."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for block in re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]:
        requirement, _, hashes = block.partition(" \\\n")
        yield Requirement(requirement), hashes


every_list = pytest.mark.parametrize("name", WANTED)


@every_list
def test_each_package_has_one_version_and_its_hashes(name: str) -> None:
    for requirement, hashes in pins(name):
        assert [each.operator for each in requirement.specifier] == ["=="], requirement
        assert re.fullmatch(r"(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", hashes), requirement


@every_list
def test_what_the_project_asks_for_is_pinned(name: str) -> None:
    pinned = {canonicalize_name(requirement.name): requirement for requirement, _ in pins(name)}
    for wanted in map(Requirement, WANTED[name]):
        (specifier,) = pinned[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(specifier.version, prereleases=True), wanted


def test_the_lists_agree() -> None:
    """A package of ours contains what was tested."""
    tested = {requirement.name: (str(requirement), hashes) for requirement, hashes in pins("dev")}
    for requirement, hashes in chain(pins("run"), pins("sdists")):
        assert tested[requirement.name] == (str(requirement), hashes)


def test_the_tests_run_with_them() -> None:
    for requirement, _ in pins("dev"):
        if requirement.marker is None or requirement.marker.evaluate():
            assert f"=={version(requirement.name)}" == str(requirement.specifier), requirement


@pytest.mark.parametrize("script", ["bootstrap", "package"])
def test_scripts_take_nothing_else(script: str) -> None:
    """Each call of pip checks hashes or takes nothing from outside."""
    text = (ROOT / "script" / script).read_text().replace("\\\n", " ")
    calls = re.findall(r'^.*(?:bin/pip\b|"\$\{pip\[@\]\}").*$', text, flags=re.MULTILINE)
    assert calls
    for call in calls:
        assert "--require-hashes" in call or "--no-deps" in call, call
        assert "--no-build-isolation" in call or "--only-binary :all:" in call or "*.whl" in call, call


def test_another_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    """As whoever gets between PyPI and us would put one there."""
    (tmp_path / "sniffio-1.3.1-py3-none-any.whl").write_bytes(b"anything")
    (wanted,) = [(pin, hashes) for pin, hashes in pins("run") if pin.name == "sniffio"]
    (tmp_path / "list.txt").write_text(f"{wanted[0]} \\\n{wanted[1]}")
    words = f"--no-deps --no-index --find-links {tmp_path} --require-hashes -r list.txt -d new".split()
    command = [sys.executable, "-m", "pip", "--isolated", "download", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr

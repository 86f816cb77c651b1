"""The fuzzers' targets: over all that was found before, and for a moment over new octets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fuzz.run import CHECKOUT, CORPUS, NATIVE, fuzz
from tests.fuzz.targets import TARGETS

FUZZERS = [f"fuzz-{path.stem}" for path in sorted((CHECKOUT / "native" / "fuzz").glob("*.c"))]


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    seeds = sorted((CORPUS / name).iterdir())
    assert seeds
    for seed in seeds:
        octets = seed.read_bytes()
        TARGETS[name](octets)
        TARGETS[name](octets[: len(octets) // 2])


@pytest.mark.parametrize("name", TARGETS)
def test_a_moment(name: str, tmp_path: Path) -> None:
    count, problem = fuzz(name, tmp_path, ["-runs=2000", "-seed=1"])
    assert not problem
    assert count >= 2000


@pytest.fixture(scope="session")
def built() -> None:
    subprocess.run(["make", "--silent", "-C", CHECKOUT / "native", "fuzz"], check=True)


@pytest.mark.parametrize("name", FUZZERS)
def test_a_moment_of_native_code(name: str, tmp_path: Path, built: None) -> None:
    assert (NATIVE / name).exists()
    count, problem = fuzz(name, tmp_path, ["-runs=2000", "-seed=1", "-max_len=600"])
    assert not problem
    assert count >= 2000


def test_failures_are_told(tmp_path: Path) -> None:
    """What fails is kept, and why is told."""
    wrong = tmp_path / "fuzz-wrong"
    wrong.write_text("#!/bin/sh\necho 'stat::number_of_executed_units: 7' >&2\necho broken >&2\nexit 77\n")
    wrong.chmod(0o755)
    assert fuzz("fuzz-wrong", tmp_path / "work", [], native=tmp_path) == (
        7,
        "stat::number_of_executed_units: 7\nbroken\n",
    )

"""The fuzzers' targets: over all that was found before, and for a moment over new octets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fuzz.run import CHECKOUT, CORPUS, NATIVE, add_up, fuzz
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
    done = fuzz(name, tmp_path, ["-runs=2000", "-seed=1"])
    assert not done.problem
    assert done.executions >= 2000
    assert done.after >= done.before > 0


@pytest.fixture(scope="session")
def built() -> None:
    subprocess.run(["make", "--silent", "-C", CHECKOUT / "native", "fuzz"], check=True)


@pytest.mark.parametrize("name", FUZZERS)
def test_a_moment_of_native_code(name: str, tmp_path: Path, built: None) -> None:
    assert (NATIVE / name).exists()
    done = fuzz(name, tmp_path, ["-runs=2000", "-seed=1", "-max_len=600"])
    assert not done.problem
    assert done.executions >= 2000
    assert done.after >= done.before > 0


def test_failures_are_told(tmp_path: Path) -> None:
    """What fails is kept, and why is told."""
    wrong = tmp_path / "fuzz-wrong"
    wrong.write_text("#!/bin/sh\necho 'stat::number_of_executed_units: 7' >&2\necho broken >&2\nexit 77\n")
    wrong.chmod(0o755)
    done = fuzz("fuzz-wrong", tmp_path / "work", [], native=tmp_path)
    assert done == (7, 0, 0, 0, "stat::number_of_executed_units: 7\nbroken\n")


def test_executions_add_up(tmp_path: Path) -> None:
    assert [add_up(tmp_path, "header", n) for n in (10, 0, 5)] == [10, 10, 15]
    assert add_up(tmp_path, "name", 1) == 1

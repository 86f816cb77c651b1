"""What `fusecrypt bench` measures, as far as it can be told without a clock."""

from __future__ import annotations

import time
from io import StringIO

import pytest
from rich.console import Console

from fusecrypt import native
from fusecrypt.measure import crypto
from fusecrypt.measure.results import Results
from fusecrypt.measure.table import tables
from fusecrypt.measure.workload import TINY, Row
from fusecrypt.ondisk.ciphers import CIPHERS

WRITE = Row("streams", "write", "MiB/s")
CREATE = Row("small files", "create", "µs each")


@pytest.fixture
def results() -> Results:
    versions = dict.fromkeys(("fusecrypt", "ipsec-mb", "bare"), "1.0")
    return Results("tmpfs", "tiny", "2026-01-31", "1.0", "a machine", 0.0, versions)


def test_every_cipher_and_key_size_is_measured_both_ways() -> None:
    whats = [case.row.what for case in crypto.cases()]
    assert len(whats) == len(set(whats))
    for spec in CIPHERS.values():
        for key_bytes in spec.key_sizes:
            for way in ("encrypted", "decrypted"):
                name = f"{spec.name}-{8 * key_bytes} {way}, "
                assert sum(what.startswith(name) for what in whats) == (4 if spec.name == "aes" else 1)


def test_aes_has_its_limits_beside_it() -> None:
    limits = {"ipsec-mb", "OpenSSL"} if native.engine() == "ipsec-mb" else {"OpenSSL"}
    for case in crypto.cases():
        if case.row.what.startswith("aes"):
            assert set(case.works) == {"fusecrypt", *limits}
    assert set(crypto.cases()[0].works) == {"memcpy"}
    assert {"fusecrypt", "memcpy", *limits} == set(crypto.versions())


def test_each_figure_is_of_all_octets_over_enough_time() -> None:
    seen: list[int] = []

    def work(rounds: int) -> None:
        seen.append(rounds)
        time.sleep(0.001 * rounds)

    rate = crypto._rate(work, 1 << 20, 0.02)
    assert seen[-1] >= 10
    assert 50 < rate < 1000  # MiB in rounds of a millisecond, and more on a busy machine


def test_every_case_gives_a_sample_of_every_contender(results: Results) -> None:
    todo = crypto.cases()
    said: list[str] = []
    crypto.crypto(results, TINY, todo, said.append)
    assert len(said) == len(todo)
    for case in todo:
        assert set(results.samples[case.row]) == set(case.works)
        assert all(sample > 0 for samples in results.samples[case.row].values() for sample in samples)


def test_a_table_has_the_contenders_of_its_workload_and_how_much_better_we_are(results: Results) -> None:
    for name, row, values in (
        ("fusecrypt", WRITE, (90.0, 100.0, 130.0)),
        ("ipsec-mb", WRITE, (200.0,)),
        ("fusecrypt", CREATE, (50.0,)),
        ("bare", CREATE, (10.0,)),
    ):
        for value in values:
            results.add(name, row, value)
    text = StringIO()
    for table in tables(results):
        Console(file=text, width=100).print(table)
    lines = [line.split() for line in text.getvalue().splitlines() if line.strip()]
    assert ["fusecrypt", "ipsec-mb"] in lines
    assert ["write,", "MiB/s", "100", "±20%", "200", "(0.50)"] in lines
    assert ["create,", "µs", "each", "50", "10", "(0.20)"] in lines

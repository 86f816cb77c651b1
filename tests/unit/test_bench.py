"""The parts of the bench that measure nothing: statistics, tables, plots, the ledger, bad input."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import ledger, main
from bench.contenders import CONTENDERS
from bench.contenders.gocryptfs import Gocryptfs
from bench.report import to_json, to_markdown
from bench.workloads import WORKLOADS
from bench.workloads.random_io import operations_each_second
from fusecrypt.measure import processes, runner
from fusecrypt.measure.errors import BenchError
from fusecrypt.measure.machine import Machine
from fusecrypt.measure.plot import to_svg
from fusecrypt.measure.report import number
from fusecrypt.measure.results import Results, spread
from fusecrypt.measure.workload import FULL, QUICK, TINY, Row

WRITE = Row("streams", "write, 128 KiB calls", "MiB/s")
CREATE = Row("small files", "create", "µs each")
IDLE = Row("memory", "CPU while idle", "%")


@pytest.fixture
def results() -> Results:
    versions = dict.fromkeys(("fusecrypt", "gocryptfs", "securefs", "bare"), "1.0")
    results = Results("tmpfs", "quick", "2026-01-31", "abc1234", "A <CPU>, 2 cores", 0.25, versions)
    for contender, row, values in (
        ("fusecrypt", WRITE, (900.0, 1000.0, 1200.0)),
        ("gocryptfs", WRITE, (500.0, 400.0, 600.0)),
        ("securefs", WRITE, (800.0,)),
        ("bare", WRITE, (4000.0,)),
        ("fusecrypt", CREATE, (50.0, 60.0)),
        ("gocryptfs", CREATE, (110.0,)),
        ("securefs", CREATE, (44.0,)),
        ("fusecrypt", IDLE, (0.0,)),
        ("gocryptfs", IDLE, (0.0,)),
    ):
        for value in values:
            results.add(contender, row, value)
    return results


def test_spread_is_half_the_range_as_a_part_of_the_median() -> None:
    assert spread([90.0, 100.0, 130.0]) == pytest.approx(0.2)
    assert spread([7.0]) == 0
    assert spread([0.0, 0.0]) == 0
    assert spread([-10.0, -10.0, -20.0]) == pytest.approx(0.5)


def test_an_advantage_is_above_one_where_we_are_better(results: Results) -> None:
    assert results.advantage(WRITE, "gocryptfs") == pytest.approx(2.0)
    assert results.advantage(CREATE, "gocryptfs") == pytest.approx(2.0)
    assert results.advantage(CREATE, "securefs") == pytest.approx(0.8)


def test_there_is_no_ratio_to_nothing(results: Results) -> None:
    assert results.advantage(IDLE, "gocryptfs") is None
    assert results.advantage(WRITE, "encfs") is None
    assert results.advantage(WRITE, None) is None


def test_the_best_rival_is_never_ourselves_nor_the_bare_directory(results: Results) -> None:
    assert results.best_rival(WRITE) == "securefs"
    assert results.best_rival(CREATE) == "securefs"
    assert results.best_rival(Row("x", "y", "s")) is None


def test_json_holds_every_sample(results: Results) -> None:
    data = json.loads(to_json(results))
    write = data["rows"][0]
    assert write["contenders"]["fusecrypt"]["samples"] == [900.0, 1000.0, 1200.0]
    assert write["contenders"]["fusecrypt"]["median"] == 1000.0
    assert write["higher_is_better"]
    assert write["against_gocryptfs"] == 2.0
    assert (write["best_rival"], write["against_best_rival"]) == ("securefs", 1.25)


def test_markdown_has_a_table_for_each_workload(results: Results) -> None:
    results.left_out.append("streams, encfs: encfs is not installed")
    lines = to_markdown(results).splitlines()
    assert "## Streams" in lines
    assert "## Small files" in lines
    assert (
        "| write, 128 KiB calls, MiB/s | 1000 ±15% | 500 ±20% | 800 | 4000 | 2.00 | 1.25 (securefs) |"
        in lines
    )
    assert "* streams, encfs: encfs is not installed" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables} == {8}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1234"), (12.34, "12.3"), (0.012345, "0.0123"), (0.0, "0"), (-2048.0, "-2048")],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_a_plot_is_valid_svg_with_a_bar_for_each_contender(results: Results) -> None:
    root = ElementTree.fromstring(to_svg(results, "streams"))
    bars = root.findall("{http://www.w3.org/2000/svg}rect")[1:]
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert len(widths) == 4
    assert widths[0] / widths[3] == pytest.approx(1000 / 4000, rel=0.01)


def test_a_plot_of_zeros_has_bars_without_width(results: Results) -> None:
    root = ElementTree.fromstring(to_svg(results, "memory"))
    assert root.findall(".//{http://www.w3.org/2000/svg}rect")[1].attrib["width"] == "0.0"


def test_the_ledger_gets_one_line_a_run_under_one_head(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "PERFORMANCE.md"
    ledger.append(results, path)
    ledger.append(results, path)
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    cells = [cell.strip() for cell in lines[-1].split("|")[1:-1]]
    assert cells[:5] == [
        "2026-01-31", "abc1234", "A <CPU>, 2 cores", "tmpfs, quick, 0.25", "1000 (2.00)",
    ]  # fmt: skip
    assert cells[-1] == "2.00"


def test_only_a_machine_that_did_nothing_else_is_quiet() -> None:
    assert Machine("cpu", 2, 8, "6.1", 0.69).is_quiet
    assert not Machine("cpu", 2, 8, "6.1", 0.7).is_quiet


def test_every_round_measures_all_contenders_and_begins_with_another_one() -> None:
    contenders = [CONTENDERS[name] for name in ("fusecrypt", "gocryptfs", "bare")]
    workloads = {name: WORKLOADS[name] for name in ("start", "small", "many")}
    plan = runner.Plan(Path("/nowhere"), False, QUICK, contenders, workloads, frozenset({"many"}))
    steps = [(number, workload, contender.name) for number, workload, contender in runner.order(plan)]
    assert len(steps) == len(set(steps)) == QUICK.rounds * 2 * 3 + 3
    assert {number for number, workload, _ in steps if workload == "many"} == {0}
    assert [name for number, workload, name in steps if workload == "small" and number == 1] == [
        "gocryptfs", "bare", "fusecrypt",
    ]  # fmt: skip


def test_failures_are_told_in_one_line() -> None:
    assert runner.describe(OSError(errno.ENOSPC, "x", "/some/file")) == "no space left"
    assert runner.describe(OSError(errno.EACCES, "x", "/some/file")) == "Permission denied: /some/file"
    assert runner.describe(BenchError("securefs: wrong password")) == "securefs: wrong password"


def test_a_program_that_is_absent_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert Gocryptfs().missing() == "gocryptfs is not installed"


def test_a_directory_that_is_too_full_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner.check_room(tmp_path, TINY)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 1 << 20}))
    with pytest.raises(BenchError, match=r"has 1 MiB free, a full run needs \d+ MiB"):
        runner.check_room(tmp_path, FULL)


def test_what_fio_reports_becomes_operations_each_second() -> None:
    job = {"read": {"total_ios": 700}, "write": {"total_ios": 300}, "job_runtime": 500}
    assert operations_each_second({"jobs": [job]}) == 2000
    assert operations_each_second({"jobs": [{**job, "job_runtime": 0}]}) > 0


def test_an_unknown_contender_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["--contenders", "fusecrypt,unheard"])
    assert end.value.code == 2
    assert "'unheard' is none of fusecrypt, " in capsys.readouterr().err


def test_usage_is_counted_for_processes_below_us() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in processes.descendants()
        usage = processes.usage({child.pid})
        assert usage.peak >= usage.resident > 0
    finally:
        child.communicate(b"\n")
    assert processes.usage({child.pid}) == (0, 0, 0)


def test_processes_that_do_not_end_are_killed() -> None:
    child = subprocess.Popen(["sleep", "60"])
    assert not processes.wait_for_end({child.pid}, 0.05)
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)
    child.wait()

"""The bench as a command, on files of 1 MiB: that it measures, reports and cleans up, never how fast."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.main", "--tiny", *arguments],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_run_leaves_a_report_and_nothing_else(open_tmp_path: Path) -> None:
    place, out = open_tmp_path / "place", open_tmp_path / "out"
    place.mkdir()
    arguments = ["--on", str(place), "--out", str(out)]
    result = bench("--contenders", "fusecrypt,bare", "--workloads", "streams,small,start,many", *arguments)
    assert result.returncode == 0, result.stderr
    assert list(place.iterdir()) == []
    (path,) = out.glob("*.json")
    data = json.loads(path.read_text())
    assert data["left_out"] == []
    rows = {(row["workload"], row["what"]): row["contenders"] for row in data["rows"]}
    for row in (("streams", "read, 128 KiB calls"), ("small files", "delete"), ("listing", "20 files")):
        assert set(rows[row]) == {"fusecrypt", "bare"}
        assert all(contender["median"] > 0 for contender in rows[row].values())
    assert rows["start", "mount to first answer"]["fusecrypt"]["median"] > 0
    assert rows["memory", "peak in streams"]["fusecrypt"]["median"] > 1
    assert "## Small files" in result.stdout
    assert sorted(file.suffix for file in out.iterdir()) == [".json", ".md", *[".svg"] * 5]


def test_a_rival_that_is_absent_is_one_line_and_status_5(open_tmp_path: Path) -> None:
    arguments = ["--contenders", "gocryptfs,bare", "--workloads", "small", "--on", str(open_tmp_path)]
    result = bench(*arguments, PATH=_path_without_rivals(open_tmp_path))
    assert result.returncode == 5, result.stderr
    assert "bench: left out: gocryptfs: gocryptfs is not installed\n" in result.stderr
    assert "* gocryptfs: gocryptfs is not installed" in result.stdout


def _path_without_rivals(directory: Path) -> str:
    bin_directory = directory / "bin"
    bin_directory.mkdir()
    for name in ("stat", "git", "sync"):
        (bin_directory / name).symlink_to(f"/usr/bin/{name}")
    return str(bin_directory)


def test_a_directory_that_cannot_be_used_is_one_line_and_status_1(tmp_path: Path) -> None:
    result = bench("--contenders", "bare", "--on", str(tmp_path / "absent"))
    assert result.returncode == 1
    assert result.stderr == f"bench: cannot use {tmp_path / 'absent'}: No such file or directory\n"


def test_an_interrupted_run_cleans_up(open_tmp_path: Path) -> None:
    arguments = ["--contenders", "fusecrypt", "--on", str(open_tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.main", "--tiny", *arguments],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "random" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "bench: interrupted; everything is cleaned up"
    assert list(open_tmp_path.iterdir()) == []

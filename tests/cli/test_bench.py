"""fusecrypt bench as a command: what it reports, refuses and leaves behind, never how fast."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.support import PROGRAM, run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_encryption_and_a_file_system_are_measured(open_tmp_path: Path) -> None:
    plot, place = open_tmp_path / "plot.svg", open_tmp_path / "place"
    place.mkdir()
    done = run("bench", "--tiny", "--json", "--plot", plot, place)
    assert done.stderr == ""
    assert list(place.iterdir()) == []
    data = json.loads(done.stdout)
    assert data["left_out"] == []
    rows = {(row["workload"], row["what"]): row["contenders"] for row in data["rows"]}
    assert rows["native crypto", "aes-256 encrypted, 32 a call"]["fusecrypt"]["median"] > 0
    for row in (("streams", "read, 128 KiB calls"), ("random 4 KiB", "write"), ("small files", "delete")):
        assert set(rows[row]) == {"fusecrypt", "bare"}
        assert all(contender["median"] > 0 for contender in rows[row].values())
    bars = ElementTree.parse(plot).findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + sum(map(len, rows.values()))


def test_without_a_directory_there_is_only_encryption() -> None:
    done = run("bench", "--tiny")
    assert "aes-256 decrypted, 256 a call, MiB/s" in done.stdout
    assert "streams" not in done.stdout


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    done = run("bench", "--tiny", tmp_path / "absent", status=1)
    assert done.stderr == f"fusecrypt: cannot use {tmp_path / 'absent'}: No such file or directory\n"
    assert done.stdout == ""


def test_a_directory_that_is_too_full(small_disk: Path) -> None:
    done = run("bench", "--tiny", small_disk, status=1)
    (line,) = done.stderr.splitlines()
    assert "8 MiB free, a tiny run needs" in line
    assert list(small_disk.iterdir()) == []


def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = run("bench", "--plot", tmp_path / "absent" / "plot.svg", status=2)
    assert "cannot be written to" in done.stderr


def test_a_plot_stays_until_there_is_another(tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    plot.write_text("the one of last week")
    run("bench", "--tiny", "--plot", plot, tmp_path / "absent", status=1)
    assert plot.read_text() == "the one of last week"
    (tmp_path / "link").symlink_to(plot)
    run("bench", "--tiny", "--plot", tmp_path / "link")
    assert "</svg>" in plot.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "plot.svg"]


def test_what_cannot_mount_is_left_out(open_tmp_path: Path) -> None:
    place = open_tmp_path / "place"
    place.mkdir()
    hide = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hide, "sh"]
    done = subprocess.run(
        [*command, PROGRAM, "bench", "--tiny", place],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "fusecrypt: left out: streams, fusecrypt: " in done.stderr
    assert "native crypto" in done.stdout
    assert "create, µs each" in done.stdout  # of the bare directory
    assert "Traceback" not in done.stderr

"""What docs/scale.md says about clusters, as it stands there."""

from __future__ import annotations

import os
import random
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed import Security

from tests.docs.reader import the_block
from tests.mount.support import PROGRAM, run
from tests.offline.test_cluster import KEYS, PASSPHRASE, Cluster, searched
from tests.offline.test_cluster import cluster as cluster
from tests.offline.test_cluster import small as small
from tests.storage.support import to_zip


def check(restored: Path) -> None:
    """That the two small files are there, and nothing else."""
    assert sorted(os.listdir(restored)) == ["some0", "some1"]
    for number in range(2):
        assert (restored / f"some{number}").read_bytes() == random.Random(number).randbytes(4_000_000)


def test_a_tree_that_lies_elsewhere(small: Path, cluster: Cluster, tmp_path: Path) -> None:
    """By the cluster's own means; in an archive instead of S3."""
    to_zip(small, tmp_path / "tree.zip")
    code = the_block("scale.md", "python cluster")
    for written, here in (
        ("s3://bucket/tree", f"zip://tree::file://{tmp_path}/tree.zip"),
        ("/run/keys/tree", f"{tmp_path}/pass"),
        ("/mnt/restored", f"{tmp_path}/restored"),
        ("tls://scheduler:8786", cluster.address),
    ):
        assert written in code
        code = code.replace(written, here)
    exec(code, {"__name__": "page"})
    assert searched(cluster.scheduler.pid, [PASSPHRASE, *KEYS]) == []
    check(tmp_path / "restored")


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Files by the words that name them; they are also what Dask's configuration names."""
    made: Any = Security.temporary()  # type: ignore[no-untyped-call]
    texts = {"ca-file": made.tls_ca_file, "cert": made.tls_worker_cert, "key": made.tls_worker_key}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {f"--tls-{name}": str(tmp_path / name) for name in texts}


def in_place(line: str, files: dict[str, str], port: int, directory: Path) -> list[str]:
    """A command of the page with what is different on this machine."""
    words: list[str] = []
    for word in shlex.split(line.replace("scheduler:8786", f"127.0.0.1:{port}")):
        words.append(files[words[-1]] if word == "…" else word)
    here = {"/backup/tree": "lower", "/mnt/restored": "out", "cat /run/keys/tree": f"cat {directory}/pass"}
    return [here.get(word, word) for word in words]


@pytest.mark.full
def test_by_tls(
    small: Path, certificates: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    _, *lines = the_block("scale.md", "sh cluster").splitlines()
    scheduler, worker, export = (in_place(line, certificates, port, tmp_path) for line in lines)
    scheduler += ["--host", "tls://127.0.0.1", "--port", str(port), "--no-dashboard"]
    running = []
    try:
        for number, words in enumerate((scheduler, [*worker, "--no-dashboard", "--no-nanny"])):
            assert words[0] == "dask"
            (tmp_path / str(number)).mkdir()
            command = [sys.executable, "-m", *words]
            running.append(subprocess.Popen(command, cwd=tmp_path / str(number)))
        assert export[0] == PROGRAM.name
        monkeypatch.chdir(tmp_path)
        export += ["--passfile", "pass"]  # instead of a prompt
        assert "needs a certificate" in run(*export[1:], status=2).stderr
        for name, word in (("CA_FILE", "ca-file"), ("CLIENT__CERT", "cert"), ("CLIENT__KEY", "key")):
            monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{name}", certificates[f"--tls-{word}"])
        run(*export[1:])
    finally:
        for process in running:
            process.kill()
            process.wait()
    check(tmp_path / "out")

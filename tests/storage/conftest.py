"""An SFTP and an S3 server of this process, and clean file systems."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import fsspec.asyn
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from sshfs import SSHFileSystem

from fusecrypt.storage.filesystem import EcryptfsFileSystem


class _Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False  # everybody may come in


@pytest.fixture(autouse=True, scope="session")
def _fsspec_has_its_thread() -> None:
    """It is started once and stays, with its descriptors."""
    fsspec.asyn.get_loop()


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[SSHFileSystem]:
    """A client of a server that shows ``tmp_path``/sftp as its root."""
    root = tmp_path / "sftp"
    root.mkdir()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        key = asyncssh.generate_private_key("ssh-ed25519")

        def serve(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
            return asyncssh.SFTPServer(channel, chroot=str(root).encode())

        return await asyncssh.listen(
            "127.0.0.1", 0, server_factory=_Server, server_host_keys=[key], sftp_factory=serve
        )

    async def close(server: asyncssh.SSHAcceptor) -> None:
        server.close()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(30)
    fs = SSHFileSystem("127.0.0.1", port=server.get_port(), username="somebody", known_hosts=None, config=[])
    try:
        yield fs
    finally:
        SSHFileSystem.clear_instance_cache()
        fs.client.close()
        asyncio.run_coroutine_threadsafe(fs.client.wait_closed(), fs.loop).result(30)
        asyncio.run_coroutine_threadsafe(close(server), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def _s3_server() -> Iterator[str]:
    """Where it listens."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture
def s3(_s3_server: str) -> Iterator[S3FileSystem]:
    """A client of a server with an empty bucket ``bucket``."""
    fs = S3FileSystem(key="any", secret="any", endpoint_url=_s3_server, skip_instance_cache=True)
    fs.mkdir("bucket")
    try:
        yield fs
    finally:
        fs.rm("bucket", recursive=True)
        S3FileSystem.close_session(fs.loop, fs.s3)


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    """File systems are kept by their arguments, and the one in memory by the process."""
    yield
    EcryptfsFileSystem.clear_instance_cache()
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]

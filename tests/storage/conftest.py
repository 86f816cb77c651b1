"""An SFTP server of this process, and clean file systems."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import fsspec.asyn
import pytest
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


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    """File systems are kept by their arguments, and the one in memory by the process."""
    yield
    EcryptfsFileSystem.clear_instance_cache()
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]

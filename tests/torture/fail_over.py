"""A PostgreSQL server that dies, its standby that takes over, and the address that moves from one to the other.

The standby is synchronous: what the server has acknowledged is on both.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.postgres_server import Server, folder_for_servers, owner, run

PATIENCE = 30.0
"""Seconds within which a standby has caught up, and a promoted one takes writes."""


class Forwarder:
    """A TCP address that leads to one server after the other. What goes through it can be held up."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._connections: set[socket.socket] = set()
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._thread = threading.Thread(target=self._accept, name="forwarder", daemon=True)
        self._thread.start()

    def move(self, target: Path) -> None:
        """Who connects from now on comes to this server; who is connected to the other one loses that."""
        self._target = target
        self._cut()

    def hold(self, seconds: float) -> None:
        """Nothing gets through for so long, in either direction."""
        self._goes_on.clear()
        time.sleep(seconds)
        self._goes_on.set()

    def close(self) -> None:
        self._goes_on.set()
        self._listening.shutdown(socket.SHUT_RDWR)  # or the thread would go on with its accept
        self._listening.close()
        self._thread.join(10)
        self._cut()

    def _cut(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._target))
            except OSError:  # the server is dead
                client.close()
                server.close()
                continue
            self._connections |= {client, server}
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self._goes_on.wait()
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._connections.discard(one)
        one.close()


class Pair:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self.server = self._new()
        self.server.make()
        self.server.start()
        self.standby = self._follow()
        self.forwarder = Forwarder(self.server.socket)
        self.url = f"postgresql://postgres@127.0.0.1:{self.forwarder.port}/postgres"

    def fail_over(self) -> None:
        """The server dies with all that it had not acknowledged; return when the other one has a standby again."""
        self.server.stop(signal.SIGQUIT)
        self.server = self.standby
        self.server.sql("select pg_promote(true, 30)")
        self.forwarder.move(self.server.socket)
        self.standby = self._follow()

    def close(self) -> None:
        self.forwarder.close()
        self.server.sql("alter system reset synchronous_standby_names")
        self.server.sql("select pg_reload_conf()")
        for each in (self.standby, self.server):
            each.stop()

    def _new(self) -> Server:
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        if (user := owner()) is not None:
            shutil.chown(folder, user)
        return Server(folder)

    def _follow(self) -> Server:
        """A copy of the server that gets everything which that one writes, before it is acknowledged."""
        standby = self._new()
        source = f"postgresql://postgres@/postgres?host={self.server.folder}"
        run("pg_basebackup", "-d", source, "-D", str(standby.data), "-R", "-X", "stream", "-c", "fast", "--no-sync")
        settings = standby.data / "postgresql.auto.conf"
        lines = settings.read_text().splitlines(keepends=True)
        settings.write_text("".join(line for line in lines if not line.startswith("synchronous_standby_names")))
        standby.start()
        self.server.sql("alter system set synchronous_standby_names = '*'")
        self.server.sql("select pg_reload_conf()")
        deadline = time.monotonic() + PATIENCE
        while self.server.sql("select sync_state from pg_stat_replication") != [("sync",)]:
            assert time.monotonic() < deadline, f"the standby does not follow: {(standby.folder / 'log').read_text()}"
            time.sleep(0.05)
        self.server.sql("create table if not exists caught_up (at int); insert into caught_up values (1)")
        return standby


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    with folder_for_servers() as folder:
        pair = Pair(folder)
        try:
            yield pair
        finally:
            pair.close()

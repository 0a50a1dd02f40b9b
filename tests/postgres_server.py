"""PostgreSQL servers of a test's own, by the machine's programs (`apt install postgresql`)."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg


def programs() -> Path | None:
    """The folder of `initdb`, `postgres` and `pg_basebackup`; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def owner() -> str | None:
    """The user who runs a server: PostgreSQL refuses to run as root."""
    return "postgres" if os.getuid() == 0 else None


def can_run() -> bool:
    if programs() is None:
        return False
    try:
        pwd.getpwnam(owner() or pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:
        return False
    return True


class Server:
    """A server whose data, log and socket are in one folder. It does not wait for a disk: only processes are killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.socket = folder / ".s.PGSQL.5432"
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """An empty database."""
        run("initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", str(self.data))

    def start(self) -> None:
        """Return when it answers."""
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}", "-c", "fsync=off"]
        command = [_program("postgres"), "-D", str(self.data), *options]
        with (self.folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, user=owner(), cwd=self.folder, stdout=log, stderr=log)
        self._wait_until_it_answers(self._process)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()}") from None
                time.sleep(0.02)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: in order, or with SIGQUIT as a crash would. Does nothing where it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)


def run(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs to its end."""
    command = [_program(program), *arguments]
    done = subprocess.run(command, user=owner(), cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def _program(name: str) -> str:
    folder = programs()
    assert folder is not None, "there is no PostgreSQL"
    return str(folder / name)


@contextlib.contextmanager
def folder_for_servers() -> Iterator[Path]:
    """A temporary folder that belongs to the user who runs servers."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if (user := owner()) is not None:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    with folder_for_servers() as folder:
        server = Server(folder)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()

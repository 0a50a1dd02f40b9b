"""Real databases for the contract: a SQLite file for each test, and a PostgreSQL server of this session's own.

The server's programs are the machine's (`apt install postgresql`), else those of the PyPI package `pgserver`. What is
not to be had is skipped with the reason, except where the environment has CI: there it is an error.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest

from tarmac.store import Store, open_store

_numbers = itertools.count(1)


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it on CI, where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class Place:
    """A database for one test, and the stores that the test opens on it."""

    kind: str
    url: str
    path: Path
    stores: list[Store] = field(default_factory=list)

    async def open(self, **options: Any) -> Store:
        store = await open_store(self.url, self.path, **options)
        self.stores.append(store)
        return store

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement behind the store's back."""
        if self.kind == "postgres":
            with psycopg.connect(self.url, autocommit=True) as server:
                cursor = server.execute(statement)
                return cursor.fetchall() if cursor.description else []
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as file:
            return file.execute(statement).fetchall()

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _owner() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "postgres" if os.getuid() == 0 else None


def _can_run_programs() -> bool:
    if _programs() is None:
        return False
    try:
        pwd.getpwnam(_owner() or pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:
        return False
    return True


@contextlib.contextmanager
def _machines_server(programs: Path) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    owner = _owner()
    try:
        if owner:
            shutil.chown(folder, owner)
        data = folder / "data"
        make = [str(programs / "initdb"), "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", str(data)]
        subprocess.run(make, user=owner, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=60)
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        with (folder / "log").open("w") as log:
            command = [str(programs / "postgres"), "-D", str(data), *options]
            server = subprocess.Popen(command, user=owner, cwd=folder, stdout=log, stderr=log)
        try:
            url = f"postgresql://postgres@/postgres?host={folder}"
            _wait_until_it_answers(url, server, folder / "log")
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {log.read_text()}")
            time.sleep(0.02)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server."""
    programs = _programs()
    if programs is not None and _can_run_programs():
        with _machines_server(programs) as url:
            yield url
        return
    try:
        pgserver = importlib.import_module("pgserver")
    except ImportError:
        unavailable("there is no PostgreSQL: neither `apt install postgresql` nor `pip install pgserver`")
    with tempfile.TemporaryDirectory(prefix="pg-") as folder, pgserver.get_server(folder) as server:
        yield server.get_uri()


@contextlib.contextmanager
def _database(server: str, options: str = "") -> Iterator[str]:
    """The URL of an empty database."""
    name = f"contract_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create database {name} template template0 {options}")
    try:
        yield server.replace("/postgres?", f"/{name}?")
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)")


@pytest.fixture(params=["sqlite", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """An empty database of each kind."""
    async with empty_place(request.param, request, tmp_path) as place:
        yield place


@contextlib.asynccontextmanager
async def empty_place(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Place]:
    """An empty database of this kind, `sqlite` or `postgres`."""
    with contextlib.ExitStack() as stack:
        url = ""
        if kind == "postgres":
            url = stack.enter_context(_database(request.getfixturevalue("postgres")))
        place = Place(kind, url, folder / "tarmac.db")
        try:
            yield place
        finally:
            await place.close()


@contextlib.contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False) if os.getuid() == 0 else None
    if mounted is None or mounted.returncode:
        unavailable(f"a small disk needs root: {mounted.stderr.strip() if mounted else 'mount is for root'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=["sqlite", "postgres"])
async def small_place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Place, Path]]:
    """An empty database on a small disk, and the disk's folder."""
    with contextlib.ExitStack() as stack:
        if request.param == "postgres":
            server = request.getfixturevalue("postgres")
            disk = stack.enter_context(_small_disk(_open_folder(stack) / "disk", 32))
            url = stack.enter_context(_database_on(disk, server))
            place = Place("postgres", url, tmp_path / "unused.db")
        else:
            disk = stack.enter_context(_small_disk(tmp_path / "disk", 8))
            place = Place("sqlite", "", disk / "tarmac.db")
        try:
            yield place, disk
        finally:
            await place.close()


def _open_folder(stack: contextlib.ExitStack) -> Path:
    """A temporary folder that the server's user can enter."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-disk-")))
    folder.chmod(0o755)
    return folder


@contextlib.contextmanager
def _database_on(disk: Path, server: str) -> Iterator[str]:
    folder = disk / "space"
    folder.mkdir()
    shutil.chown(folder, _owner() or os.getuid())
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create tablespace small location '{folder}'")
    try:
        with _database(server, "tablespace small") as url:
            yield url
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute("drop tablespace small")

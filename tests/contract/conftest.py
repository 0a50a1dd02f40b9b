"""Real databases for the contract: a SQLite file for each test, and a PostgreSQL server of this session's own.

The server's programs are the machine's (`apt install postgresql`), else those of the PyPI package `pgserver`. What is
not to be had is skipped with the reason, except where the environment has CI: there it is an error.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest

from tarmac.store import Store, open_store
from tests.postgres_server import can_run, owner, running_server

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server."""
    if can_run():
        with running_server() as server:
            yield server.url
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
    shutil.chown(folder, owner() or os.getuid())
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create tablespace small location '{folder}'")
    try:
        with _database(server, "tablespace small") as url:
            yield url
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute("drop tablespace small")

"""The cache of local mode: a SQLite file of this user, `~/.flyte/local-cache/cache.db`, which all programs share.

A cache that cannot be read or written is an empty one; the log says why. Each call has a connection of its own, so that
no program that forks or ends leaves one open.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyte import wire
from flyte._declare.task import TaskTemplate
from flyte._logging import system_logger
from flyte.cache_key import has_located, key_of, missing_file

Task = TaskTemplate[..., Any, Any]

_PATIENCE = 2.0
"""Seconds that a call waits for other programs that write."""

_TABLE = """create table if not exists results (
  key text primary key, task text not null, run text not null, action text not null,
  outputs blob not null, created real not null, seconds real not null)"""


@dataclass(frozen=True, slots=True)
class Stored:
    """One result."""

    run: str
    action: str
    outputs: bytes
    created: float
    seconds: float


def place() -> Path:
    return Path.home() / ".flyte" / "local-cache" / "cache.db"


@contextlib.contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    path = place()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection, connection:
        connection.execute(_TABLE)
        yield connection


@functools.lru_cache(maxsize=256)
def spec_of(task: Task) -> wire.CacheSpec | None:
    """The cache that the task declares, with its version; None where it declares none."""
    return task.cache.to_wire(task.func, task.env.image)


async def key_for(task: Task, cache: wire.CacheSpec, project: str, domain: str, inputs: bytes) -> str:
    interface = task.interface.spec()
    find = functools.partial(key_of, (project, domain, task.name), cache, interface, inputs)
    if has_located((spec.schema for spec in interface.inputs), inputs):
        return await asyncio.to_thread(find)
    return find()


def find(key: str, task: Task, cache: wire.CacheSpec) -> Stored | None:
    """The result that is stored under the key, if it can still be used."""
    try:
        with _open() as connection:
            row = connection.execute(
                "select run, action, outputs, created, seconds from results where key = ?", (key,)
            ).fetchone()
    except (sqlite3.Error, OSError) as error:
        system_logger.warning(f"the cache {place()} cannot be read: {error}")
        return None
    if row is None:
        return None
    found = Stored(*row)
    if cache.max_age is not None and time.time() - found.created > cache.max_age:
        return None
    if (gone := _missing_file(found, task)) is not None:
        system_logger.info(f"the result of {found.run}/{found.action} in the cache is not used: {gone} is gone")
        return None
    return found


def keep(key: str, task: Task, result: Stored) -> None:
    """Store a result, in place of an earlier one."""
    row = (key, task.name, result.run, result.action, result.outputs, result.created, result.seconds)
    try:
        with _open() as connection:
            connection.execute("insert or replace into results values (?, ?, ?, ?, ?, ?, ?)", row)
    except (sqlite3.Error, OSError) as error:
        system_logger.warning(f"the result of {task.name} cannot be kept in {place()}: {error}")


def clear() -> int:
    """Remove all results; how many there were."""
    if not place().exists():
        return 0
    with _open() as connection:
        return connection.execute("delete from results").rowcount


def _missing_file(found: Stored, task: Task) -> str | None:
    """A file that the result names and that is not there any more."""
    schemas = [spec.schema for spec in task.interface.spec().outputs]
    return missing_file(found.outputs, schemas) if has_located(schemas, found.outputs) else None


_turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
"""The locks of the keys that are being computed or waited for. On the local loop only."""


@contextlib.asynccontextmanager
async def turn(key: str, is_serialized: bool) -> AsyncIterator[None]:
    """With `serialize=True`, equal calls of this process come one after the other."""
    if not is_serialized:
        yield
        return
    lock = _turns.setdefault(key, asyncio.Lock())
    async with lock:
        yield

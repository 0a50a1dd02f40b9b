"""Blobs as files of this machine; what every store promises is in tests/contract/test_blobs.py."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte.runtime import values
from flyte.wire import INLINE_LIMIT
from tarmac.blobs import FileBlobs, unfinished
from tarmac.home import Home

DATA = b"a value that is larger than a row"
DIGEST = hashlib.sha256(DATA).hexdigest()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    await blobs.put(DATA)
    made = blobs.path(DIGEST).stat()
    await asyncio.gather(blobs.put(DATA), blobs.put(DATA))
    assert blobs.path(DIGEST).stat().st_ino == made.st_ino
    assert names(tmp_path) == [DIGEST]


async def test_a_blob_that_a_power_cut_shortened_is_mended(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    blobs.path(DIGEST).write_bytes(DATA[:5])
    await blobs.put(DATA)
    assert await blobs.get(DIGEST) == DATA


async def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        await FileBlobs(tmp_path).put(DATA)
    assert names(tmp_path) == []


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file of this process grows beyond 1000 bytes, its own log included: for no longer than it has to be."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_what_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_files(), pytest.raises(OSError, match="File too large"):
        await FileBlobs(tmp_path).put(b"x" * 2000)
    assert names(tmp_path) == []


def test_what_a_worker_has_no_room_for_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_BLOBS", str(tmp_path))
    with small_files(), pytest.raises(OSError, match="File too large"):
        values.pack_value(b"x" * (INLINE_LIMIT + 1), "it")
    assert names(tmp_path) == []


def test_a_worker_mends_a_value_that_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_BLOBS", str(tmp_path))
    data = b"x" * (INLINE_LIMIT + 1)
    stored = values.pack_value(data, "it")
    assert stored.blob is not None
    (tmp_path / stored.blob).write_bytes(data[:10])
    assert values.unpack_value(values.pack_value(data, "it")) == data


def test_what_was_not_finished_an_hour_ago_is_removed_and_nothing_else(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    old = [home.blobs / ".put-old", home.code / ".0123456789ab.old"]
    kept = [home.blobs / DIGEST, home.blobs / ".put-new", home.code / DIGEST, home.code / ".0123456789ab.new"]
    for path in (*old, *kept):
        path.mkdir() if path.parent == home.code else path.write_bytes(DATA)
    (old[1] / "module.py").touch()
    for path in (*old, kept[0], kept[2]):
        os.utime(path, (1000, 1000))
    now = max(path.stat().st_mtime for path in kept)
    unfinished.remove(home, now)
    assert [path for path in (*old, *kept) if path.exists()] == kept

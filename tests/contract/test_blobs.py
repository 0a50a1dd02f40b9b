"""What every store of blobs promises: a folder, and an object store that speaks the S3 protocol."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flyte.errors import InvalidInputError, NotFoundError, StorageError, SystemUnavailableError
from tarmac.blobs import Blobs, FileBlobs, ObjectBlobs, open_blobs
from tests.object_server import ENVIRONMENT, Door, Fault, make_bucket, object_server

DATA = random.Random(1).randbytes(3_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with object_server() as endpoint:
        yield endpoint


@pytest.fixture
async def door(server: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    async with Door(server).open() as opened:
        for name, value in {**ENVIRONMENT, "FLYTE_AWS_ENDPOINT": opened.endpoint}.items():
            monkeypatch.setenv(name, value)
        yield opened


@pytest.fixture
async def objects(door: Door, tmp_path: Path) -> ObjectBlobs:
    (tmp_path / "copies").mkdir()
    return ObjectBlobs(f"{await make_bucket(door.endpoint)}/some/prefix", tmp_path / "copies", patience=5)


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "s3":
        opened: ObjectBlobs = request.getfixturevalue("objects")
        return opened
    (tmp_path / "blobs").mkdir()
    return open_blobs("", tmp_path / "blobs")


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def whole(blobs: Blobs, digest: str) -> bytes:
    return b"".join([piece async for piece in blobs.stream(digest)])


async def names(blobs: Blobs) -> list[str]:
    return sorted([each.name async for each in blobs.list()])


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------------------------------ promises


async def test_what_was_put_is_found_by_its_digest(blobs: Blobs) -> None:
    assert not await blobs.has(DIGEST)
    assert await blobs.put(DATA) == DIGEST
    assert await blobs.has(DIGEST)
    assert await blobs.get(DIGEST) == DATA
    assert await blobs.size(DIGEST) == len(DATA)
    assert await whole(blobs, DIGEST) == DATA
    assert (await blobs.local(DIGEST)).read_bytes() == DATA
    assert await names(blobs) == [DIGEST]


async def test_what_comes_in_pieces_is_stored_once(blobs: Blobs) -> None:
    assert await blobs.put_stream(DIGEST, pieces(DATA))
    assert not await blobs.put_stream(DIGEST, pieces(DATA))
    assert await blobs.get(DIGEST) == DATA


async def test_many_who_put_the_same_bytes_at_once_all_succeed(blobs: Blobs) -> None:
    assert set(await asyncio.gather(*(blobs.put(DATA) for _ in range(5)))) == {DIGEST}
    assert await names(blobs) == [DIGEST]


async def test_nothing_at_all_can_be_stored(blobs: Blobs) -> None:
    assert await blobs.get(await blobs.put(b"")) == b""


async def test_bytes_that_are_not_what_they_are_said_to_be_are_refused(blobs: Blobs) -> None:
    with pytest.raises(InvalidInputError, match=f"{DIGEST}, not {'0' * 64}"):
        await blobs.put_stream("0" * 64, pieces(DATA))
    assert await names(blobs) == []


async def test_an_upload_that_breaks_off_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        raise ConnectionResetError("the sender is gone")

    with pytest.raises(ConnectionResetError):
        await blobs.put_stream(DIGEST, broken())
    assert await names(blobs) == []
    assert files(tmp_path) == []


async def test_a_blob_that_is_not_there_is_named(blobs: Blobs) -> None:
    for call in (blobs.get(DIGEST), blobs.size(DIGEST), blobs.local(DIGEST), whole(blobs, DIGEST)):
        with pytest.raises(NotFoundError, match=DIGEST):
            await call


@pytest.mark.parametrize("digest", ["", "../token", DIGEST.upper(), DIGEST + "\n", DIGEST[:-1], f"x/{DIGEST}"])
async def test_what_is_not_a_digest_never_becomes_a_name(blobs: Blobs, digest: str) -> None:
    for call in (blobs.has(digest), blobs.get(digest), blobs.put_stream(digest, pieces(DATA)), blobs.remove(digest, 0)):
        with pytest.raises(InvalidInputError, match="is not a sha256"):
            await call
    assert await names(blobs) == []


async def test_what_was_used_lately_is_not_removed(blobs: Blobs) -> None:
    await blobs.put(DATA)
    assert not await blobs.remove(DIGEST, time.time() - 1000)
    assert await blobs.remove(DIGEST, time.time() + 1000)
    assert not await blobs.has(DIGEST)
    assert await names(blobs) == []
    with pytest.raises(NotFoundError):
        await blobs.local(DIGEST)
    assert not await blobs.remove(DIGEST, time.time() + 1000)


async def test_a_blob_that_somebody_finds_stored_counts_as_new(blobs: Blobs) -> None:
    await blobs.put(DATA)
    [stored] = [each async for each in blobs.list()]
    assert await blobs.has(DIGEST)
    assert not await blobs.remove(DIGEST, stored.at)


# -------------------------------------------------------------------------------------------------- the object store's


async def test_another_machine_finds_what_was_stored_here(objects: ObjectBlobs, tmp_path: Path) -> None:
    await objects.put(DATA)
    (tmp_path / "other").mkdir()
    other = ObjectBlobs(objects.url, tmp_path / "other")
    assert await other.has(DIGEST)
    assert await other.get(DIGEST) == DATA


async def test_a_copy_that_was_damaged_in_the_store_is_refused(
    objects: ObjectBlobs, door: Door, tmp_path: Path
) -> None:
    import aiohttp

    bucket = objects.url.removeprefix("s3://").partition("/")[0]
    address = f"{door.endpoint}/{bucket}/some/prefix/blobs/{DIGEST}"
    async with aiohttp.ClientSession() as session, session.put(address, data=io.BytesIO(DATA[:-1])) as answer:
        assert answer.status == 200
    with pytest.raises(StorageError, match=f"{DIGEST} is damaged"):
        await objects.get(DIGEST)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("denied", StorageError, "access to s3://bucket-[0-9]+ is denied; .*AWS_ACCESS_KEY_ID"),
        ("full", StorageError, "s3://bucket-[0-9]+ is full"),
        ("broken upload", SystemUnavailableError, "does not answer"),
        ("silent", SystemUnavailableError, "does not answer"),
    ],
)
async def test_an_upload_that_the_store_fails_says_why_and_can_be_repeated(
    door: Door, tmp_path: Path, fault: Fault, error: type[Exception], said: str
) -> None:
    patience = 0.5 if fault == "silent" else 10
    objects = ObjectBlobs(await make_bucket(door.endpoint), tmp_path, patience)
    door.fault = fault
    with pytest.raises(error, match=said):
        await objects.put(DATA)
    assert objects.problem
    assert files(tmp_path) == []
    door.fault = None
    assert await names(objects) == []
    assert await objects.put(DATA) == DIGEST
    assert objects.problem == ""


async def test_a_download_that_breaks_off_leaves_no_copy_and_can_be_repeated(
    door: Door, objects: ObjectBlobs, tmp_path: Path
) -> None:
    await objects.put(DATA)
    (tmp_path / "copies" / DIGEST).unlink()
    door.fault = "broken download"
    with pytest.raises((StorageError, SystemUnavailableError), match="s3://"):
        await objects.get(DIGEST)
    assert files(tmp_path) == []
    door.fault = None
    assert await objects.get(DIGEST) == DATA


async def test_what_is_sent_in_parts_appears_whole_or_not_at_all(door: Door, tmp_path: Path) -> None:
    objects = ObjectBlobs(await make_bucket(door.endpoint), tmp_path, patience=10)
    large = DATA * 6
    digest = hashlib.sha256(large).hexdigest()
    door.fault = "broken upload"
    with pytest.raises(SystemUnavailableError):
        await objects.put_stream(digest, pieces(large))
    door.fault = None
    assert await names(objects) == []
    assert await objects.put_stream(digest, pieces(large))
    assert any("POST" in call for call in door.calls), "it was not sent in parts"
    assert await objects.size(digest) == len(large)


async def test_a_bucket_that_does_not_exist_is_named(door: Door, tmp_path: Path) -> None:
    objects = ObjectBlobs("s3://nowhere/prefix", tmp_path)
    with pytest.raises(StorageError, match="the bucket s3://nowhere does not exist; create it"):
        await objects.put(DATA)
    with pytest.raises(StorageError, match="s3://nowhere"):
        await objects.check()
    assert files(tmp_path) == []


# ------------------------------------------------------------------------------------------------------- the folder's


async def test_a_removal_that_was_interrupted_is_taken_back(tmp_path: Path) -> None:
    from tarmac.blobs.files import REMOVING, restore

    blobs = FileBlobs(tmp_path)
    await blobs.put(DATA)
    blobs.path(DIGEST).rename(tmp_path / f"{REMOVING}{DIGEST}")
    restore(tmp_path)
    assert await blobs.get(DIGEST) == DATA

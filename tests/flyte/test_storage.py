"""`flyte.storage` and files in object stores, against a server of the S3 protocol."""

# ruff: noqa: ASYNC240 - small files of this machine

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pandas  # type: ignore[import-untyped, unused-ignore]
import pytest

import flyte
from flyte import storage
from flyte.errors import InvalidInputError, StorageError, SystemUnavailableError
from flyte.io import DataFrame, Dir, File
from flyte.storage import ABFS, GCS, S3
from tests.object_server import ENVIRONMENT, Door, make_bucket, object_server

CONTENT = os.urandom(200_000)
LARGE = os.urandom(12 << 20)


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
async def bucket(door: Door) -> str:
    return await make_bucket(door.endpoint)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_file_goes_to_a_store_and_comes_back(bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(LARGE)
    assert not await storage.exists(f"{bucket}/a/large.bin")
    assert await storage.put(str(source), f"{bucket}/a/large.bin") == f"{bucket}/a/large.bin"
    assert await storage.exists(f"{bucket}/a/large.bin")
    assert await storage.exists(f"{bucket}/a"), "a folder is what has objects below it"
    fetched = await storage.get(f"{bucket}/a/large.bin", tmp_path / "back.bin")
    assert Path(fetched).read_bytes() == LARGE
    assert Path(await storage.get(f"{bucket}/a/large.bin")).name == "large.bin"


async def test_a_folder_goes_to_a_store_and_comes_back(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "one.txt").write_text("1")
    (tmp_path / "in" / "deep" / "two.txt").write_text("2")
    await storage.put(str(tmp_path / "in"), f"{bucket}/folder", recursive=True)
    await storage.get(f"{bucket}/folder", tmp_path / "out", recursive=True)
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt")}
    assert found == {"one.txt", "deep/two.txt"}


async def test_streams_go_both_ways(bucket: str, tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(LARGE), 1 << 20):
            yield LARGE[at : at + (1 << 20)]

    address = await storage.put_stream(pieces(), to_path=f"{bucket}/streamed")
    got = [piece async for piece in storage.get_stream(address, chunk_size=1 << 20)]
    assert b"".join(got) == LARGE
    assert max(map(len, got)) < 4 << 20
    here = await storage.put_stream(b"bytes", to_path=str(tmp_path / "file"))
    assert [piece async for piece in storage.get_stream(here)] == [b"bytes"]


async def test_what_does_not_exist_is_a_file_not_found(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{bucket}/nothing does not exist"):
        await storage.get(f"{bucket}/nothing", tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="missing"):
        await storage.put(str(tmp_path / "missing.txt"), f"{bucket}/x")
    with pytest.raises(StorageError, match="the bucket s3://nowhere does not exist; create it"):
        await storage.put(__file__, "s3://nowhere/x")
    assert files(tmp_path) == []


async def test_what_a_store_refuses_or_breaks_off_is_told_and_leaves_nothing(
    door: Door, bucket: str, tmp_path: Path
) -> None:
    await storage.put(__file__, f"{bucket}/there")
    door.fault = "broken download"
    with pytest.raises((StorageError, SystemUnavailableError), match=f"{bucket}/there"):
        await storage.get(f"{bucket}/there", tmp_path / "x")
    door.fault = "broken upload"
    with pytest.raises(SystemUnavailableError, match="does not answer"):
        await storage.put(__file__, f"{bucket}/new")
    door.fault = "denied"
    with pytest.raises(StorageError, match=r"access to .* is denied; .*AWS_ACCESS_KEY_ID"):
        await storage.get(f"{bucket}/there", tmp_path / "x")
    door.fault = None
    assert not await storage.exists(f"{bucket}/new")
    assert files(tmp_path) == []


async def test_the_file_system_of_fsspec_has_the_settings_in_force(bucket: str, tmp_path: Path) -> None:
    await storage.put_stream(b"content", to_path=f"{bucket}/name")

    def read() -> bytes:
        content: bytes = storage.get_underlying_filesystem(path=f"{bucket}/name").cat_file(f"{bucket}/name")
        return content

    assert await asyncio.to_thread(read) == b"content"
    (tmp_path / "local").write_bytes(b"here")
    assert storage.get_underlying_filesystem("file").cat_file(str(tmp_path / "local")) == b"here"


async def test_settings_of_init_are_used(door: Door, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLYTE_AWS_ENDPOINT")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    flyte.init(storage=S3(endpoint=door.endpoint, access_key_id="a", secret_access_key="b", region="eu-west-1"))
    assert await storage.put_stream(b"x", to_path=f"{bucket}/x") == f"{bucket}/x"
    assert storage.get_configured_fsspec_kwargs("s3")["config"]["region"] == "eu-west-1"
    assert storage.get_configured_fsspec_kwargs("gs")["client_options"]["allow_http"] is True
    assert storage.get_configured_fsspec_kwargs("memory") == {}


def test_settings_come_from_the_environment_and_keep_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_AWS_ENDPOINT", "http://store")
    monkeypatch.setenv("FLYTE_AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("FLYTE_STORAGE_RETRIES", "7")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "hidden too")
    found = S3.auto(region="eu")
    assert (found.endpoint, found.region, found.retries) == ("http://store", "eu", 7)
    assert "hidden" not in f"{found!r}{ABFS.auto()!r}{GCS.auto()!r}"
    assert S3(addressing_style="virtual").get_fsspec_kwargs()["config"] == {"virtual_hosted_style_request": True}
    assert S3().get_fsspec_kwargs(anonymous=True)["config"] == {"skip_signature": True}


def test_parts_of_a_path_are_joined() -> None:
    assert storage.join("s3://bucket/a", "b", "c.txt") == "s3://bucket/a/b/c.txt"
    assert storage.is_remote("s3://bucket/a")
    assert not storage.is_remote("/tmp/a")
    assert not storage.is_remote("file:///tmp/a")


# ------------------------------------------------------------------------------------------------------- flyte.io


async def test_a_file_in_a_store_is_read_downloaded_and_asked_for(bucket: str, tmp_path: Path) -> None:
    await storage.put_stream(CONTENT, to_path=f"{bucket}/data.bin")
    file: File[bytes] = File.from_existing_remote(f"{bucket}/data.bin")
    assert await file.exists()
    assert not await File(path=f"{bucket}/nothing").exists()
    async with file.open() as opened:
        assert await opened.read() == CONTENT
    assert Path(await file.download(tmp_path / "copy.bin")).read_bytes() == CONTENT
    own = Path(await file.download())
    own.write_bytes(b"changed")
    async with file.open() as opened:
        assert await opened.read() == CONTENT
    await storage.put_stream(b"another version", to_path=f"{bucket}/data.bin")
    async with file.open() as opened:
        assert await opened.read() == b"another version"


async def test_a_file_in_a_store_is_written_whole_or_not_at_all(bucket: str) -> None:
    file: File[str] = File(path=f"{bucket}/written.txt")

    async def broken() -> None:
        async with file.open("w") as opened:
            await opened.write("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    assert not await file.exists()
    async with file.open("w") as opened:
        await opened.write("one\n")
    async with file.open("a") as opened:
        await opened.write("two\n")
    async with file.open("r") as opened:
        assert await opened.readlines() == ["one\n", "two\n"]


async def test_a_folder_in_a_store_is_walked(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("a")
    folder: Dir[str] = await Dir.from_local(tmp_path, f"{bucket}/folder")
    assert folder.path == f"{bucket}/folder"
    assert await folder.exists()
    assert not await Dir(path=f"{bucket}/none").exists()
    assert [file.name async for file in folder.walk()] == ["a.txt"]


env = flyte.TaskEnvironment(name="stored")


@env.task
async def write(text: str) -> tuple[File[str], DataFrame, str]:
    file: File[str] = File.new_remote("note.txt")
    async with file.open("w") as opened:
        await opened.write(text)
    path = flyte.ctx().raw_data_path
    assert path is not None
    return file, DataFrame.wrap_df(pandas.DataFrame({"x": [1, 2]})), path


async def test_new_files_of_a_run_go_below_its_raw_data_path(bucket: str) -> None:
    run = await flyte.with_runcontext("local", raw_data_path=f"{bucket}/raw").run.aio(write, "hello")
    file, frame, path = await run.outputs.aio()
    assert path == f"{bucket}/raw"
    assert file.path.startswith(f"{bucket}/raw/")
    async with file.open("r") as opened:
        assert await opened.read() == "hello"
    assert frame.uri.startswith(f"{bucket}/raw/")
    assert list((await frame.open(pandas.DataFrame).all())["x"]) == [1, 2]


async def test_new_files_of_a_run_go_below_its_base_folder(tmp_path: Path) -> None:
    context = flyte.with_runcontext("local", name="based", run_base_dir=str(tmp_path))
    run = await context.run.aio(write, "hello")
    file = (await run.outputs.aio())[0]
    assert file.path.startswith(f"{tmp_path}/based/files/")
    assert Path(file.path).read_text() == "hello"


def test_a_place_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="ftp://x/y"):
        flyte.with_runcontext("local", raw_data_path="ftp://x/y")
    with pytest.raises(InvalidInputError, match="does not name an object store"):
        File(path="s3://").exists_sync()


async def test_an_environment_that_keeps_to_folders_reads_no_store(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.put_stream(b"x", to_path=f"{bucket}/secret")
    monkeypatch.setenv("FLYTE_FILES_BELOW", str(tmp_path))
    with pytest.raises(PermissionError, match="FLYTE_FILES_BELOW"):
        await File(path=f"{bucket}/secret").download(tmp_path / "x")

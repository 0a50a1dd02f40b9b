"""Files and folders: what travels is the path, and the content is where the next action finds it."""

from __future__ import annotations

import asyncio
import functools
import http.server
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flyte._values import decode, encode
from flyte.io import Dir, File


@pytest.fixture(params=["local", "platform"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where new files go: a platform's folder, or this user's own."""
    if request.param == "platform":
        (tmp_path / "home" / "blobs").mkdir(parents=True)
        monkeypatch.setenv("FLYTE_BLOBS", str(tmp_path / "home" / "blobs"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("place")
async def test_a_new_file_is_written_and_read_in_both_ways() -> None:
    file: File[str] = File.named_remote("data.txt")
    assert file.name == "data.txt"
    assert not await file.exists()
    async with file.open("w") as writing:
        await writing.write("one\ntwo\n")
    async with file.open("rb") as reading:
        assert await reading.read() == b"one\ntwo\n"
    async with file.open("r") as reading:
        assert [line async for line in reading] == ["one\n", "two\n"]
    with file.open_sync("rt", "r") as plain:
        assert plain.read() == "one\ntwo\n"
    assert file.exists_sync()


async def test_a_local_file_is_kept_where_other_actions_find_it(place: Path) -> None:
    source = place / "source.txt"
    source.write_text("content")
    file: File[str] = await File.from_local(source, hash_method="h")
    assert (file.name, file.hash) == ("source.txt", "h")
    for path in (await file.download(), await file.download(place / "sub" / "copy.txt")):
        assert await asyncio.to_thread(Path(path).read_text) == "content"
    there: File[str] = File.from_local_sync(source, str(place / "there.txt"))
    assert there.path == str(place / "there.txt")
    with pytest.raises(FileNotFoundError):
        File.from_local_sync(place / "missing")


def test_on_a_platform_the_copy_outlives_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "blobs").mkdir(parents=True)
    monkeypatch.setenv("FLYTE_BLOBS", str(tmp_path / "home" / "blobs"))
    source = tmp_path / "source.txt"
    source.write_text("content")
    file: File[str] = File.from_local_sync(source)
    source.unlink()
    assert Path(file.download_sync()).read_text() == "content"
    assert Path(file.path).is_relative_to(tmp_path / "home" / "files")
    assert Path(file.path).parent.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("place")
async def test_a_folder_is_walked_listed_and_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.csv", "sub/c.txt"):
        (source / name).write_text(name)
    folder: Dir[str] = await Dir.from_local(source)
    assert [Path(file.path).name async for file in folder.walk()] == ["a.txt", "b.csv", "c.txt"]
    assert [file.name for file in folder.walk_sync(file_pattern="*.txt", max_depth=1)] == ["a.txt"]
    assert [file.name for file in await folder.list_files()] == ["a.txt", "b.csv"]
    found = await folder.get_file("sub/c.txt")
    assert found is not None
    assert found.exists_sync()
    assert await folder.get_file("none") is None
    assert (Path(await folder.download(tmp_path / "copy")) / "sub" / "c.txt").read_text() == "sub/c.txt"
    assert not folder.is_empty
    assert Dir.empty().is_empty


async def test_links_in_a_folder_are_copied_as_what_they_lead_to_and_one_to_nothing_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    (tmp_path / "there.txt").write_text("there")
    (folder / "link").symlink_to(tmp_path / "there.txt")
    given: Dir[str] = await Dir.from_local(str(folder))
    assert (Path(await given.download()) / "link").read_text() == "there"
    (folder / "dangling").symlink_to("nowhere")
    with pytest.raises(
        FileNotFoundError, match=r"given/dangling is a link to nowhere, which does not exist; remove it"
    ):
        await Dir[str](path=str(folder)).download(str(tmp_path / "copy"))


def test_they_travel_as_paths() -> None:
    assert encode(File(path="/a/b.txt"), File) == b'"/a/b.txt"'
    assert encode(File(path="/a/b.txt", name="other"), File) == b'{"path":"/a/b.txt","name":"other"}'
    kinds: list[tuple[Any, Any]] = [
        (File[str], File(path="s3://b/k", hash="x")),
        (Dir, Dir(path="/d")),
        (list[File[str]], [File(path="/f")]),
    ]
    for kind, value in kinds:
        assert decode(encode(value, kind), kind) == value


def test_pydantic_models_hold_them() -> None:
    class Model(BaseModel):
        file: File[str]
        folders: list[Dir[str]] = []

    model = Model(file=File(path="/f"), folders=[Dir(path="/d")])
    assert decode(encode(model, Model), Model) == model
    assert Model.model_validate({"file": "/x"}).file == File(path="/x")


def test_a_file_of_the_web_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("from the web")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        file: File[str] = File.from_existing_remote(f"http://127.0.0.1:{server.server_address[1]}/page.txt")
        with file.open_sync("r") as reading:
            assert reading.read() == "from the web"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


def test_what_cannot_be_reached_says_so() -> None:
    with pytest.raises(ValueError, match="only local paths, file:// and http"):
        File(path="s3://bucket/key").download_sync()
    with pytest.raises(ValueError, match="can be written"), File(path="https://x/y").open_sync("w"):
        pass
    with pytest.raises(ValueError, match="must be a local path"):
        assert Dir(path="s3://bucket/").is_empty

"""Files and folders: what travels is the path, and the content is where the next action finds it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import http.server
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import flyte
from flyte._values import decode, encode
from flyte.cache_key import key_of
from flyte.io import DataFrame, Dir, EmptyDir, File, HashFunction
from flyte.wire import CacheSpec


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
    with file.open_sync("rt") as plain:
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
    with pytest.raises(ValueError, match="only local paths, file://, http"):
        File(path="hdfs://host/key").download_sync()
    with pytest.raises(ValueError, match="can be written"), File(path="https://x/y").open_sync("w"):
        pass
    with pytest.raises(ValueError, match="is a local path"):
        assert Dir(path="hdfs://host/").is_empty


@pytest.mark.usefixtures("place")
async def test_a_compressed_file_is_read_and_written_as_what_is_in_it() -> None:
    for compression, name in (("gzip", "a.gz"), ("bz2", "a.bz2"), ("xz", "a.xz"), ("lzma", "a.lzma"), (None, "a")):
        file: File[str] = File.new_remote(name)
        with file.open_sync("wt", compression="infer", newline="\n") as writing:
            writing.write("one\ntwo\n")
        async with file.open("r", compression=compression) as reading:
            assert [line async for line in reading] == ["one\n", "two\n"]
    with pytest.raises(ValueError, match="compression='zstd' is not supported; use one of gzip, bz2"):
        await file.open(compression="zstd").__aenter__()
    with pytest.raises(ValueError, match="cache_type='readahed' is not one of all, background"):
        await file.open(cache_type="readahed").__aenter__()


async def test_a_file_is_read_in_blocks_from_any_place(place: Path) -> None:
    path = place / "large"
    path.write_bytes(bytes(range(256)) * 8)
    async with File[str](path=str(path)).open(block_size=64, cache_type="none", cache_options={}) as reading:
        assert await reading.read(2) == b"\0\1"
        await reading.seek(255)
        assert (await reading.read(1), await reading.tell()) == (b"\xff", 256)
        assert len(await reading.readall()) == 7 * 256


async def write_half(file: File[str]) -> None:
    async with file.open("w") as writing:
        await writing.write("half")
        raise RuntimeError("in between")


def contents(file: File[str]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(file.path).parent.iterdir()}


@pytest.mark.usefixtures("place")
async def test_a_new_file_appears_when_it_is_whole() -> None:
    file: File[str] = File.new_remote("out.txt")
    with pytest.raises(RuntimeError, match="in between"):
        await write_half(file)
    assert contents(file) == {}
    async with file.open("wb") as writing:
        await writing.writelines([b"a", b"b"])
        assert not await file.exists()
    assert contents(file) == {"out.txt": b"ab"}
    with file.open_sync("ab") as more:
        more.write(b"c")
    assert contents(file) == {"out.txt": b"abc"}
    with pytest.raises(FileExistsError), file.open_sync("x"):
        pass


async def test_the_hash_is_given_or_computed_from_the_content(place: Path) -> None:
    lines = HashFunction.from_fn(lambda content: str(len(content.splitlines())))
    source = place / "source.txt"
    source.write_text("one\ntwo\n")
    assert File.from_local_sync(source, hash_method=lines).hash == "2"
    assert File.from_local_sync(source, str(place / "there.txt"), _Sha256()).hash == _sha256("one\ntwo\n")
    assert (await File.from_local(source, hash_method="given")).hash == "given"
    written: File[str] = File.new_remote("new.txt", hash_method=lines)
    assert written.hash is None
    async with written.open("w") as writing:
        await writing.write("a\nb\nc\n")
    assert written.hash == "3"
    assert decode(encode(written, File), File) == written
    by_content: File[str] = File.new_remote("new.txt", hash_method=_Sha256())
    for text in ("first", "second"):
        with by_content.open_sync("w") as plain:
            plain.write(text)
        assert by_content.hash == _sha256(text)
    assert File.new_remote(hash_method="known").hash == "known"
    assert Dir.new_remote("d", hash="known").hash == "known"


class _Sha256:
    """A HashMethod that is given a file part by part, and begins anew when it is told to."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def result(self) -> str:
        return self._hash.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


env = flyte.TaskEnvironment("io")


@env.task(retries=1)
async def resumes() -> File[str]:
    """Fails when its file is written, and finds it in the next attempt."""
    file: File[str] = File.named_remote("steps.txt")
    if not await file.exists():
        async with file.open("w") as writing:
            await writing.write("computed once")
        raise ValueError("later")
    return file


def test_a_named_file_is_found_again_by_the_next_attempt() -> None:
    file = flyte.run(resumes).outputs()[0]
    assert Path(file.download_sync()).read_text() == "computed once"
    assert flyte.run(resumes).outputs()[0].path != file.path
    with pytest.raises(ValueError, match="'sub/steps' is not the name of a file"):
        File.named_remote("sub/steps")


async def test_a_file_is_not_a_folder_and_a_folder_is_not_a_file(place: Path) -> None:
    (place / "file").write_text("f")
    with pytest.raises(IsADirectoryError, match=r"use Dir\.from_local"):
        await File.from_local(place)
    with pytest.raises(NotADirectoryError, match=r"use File\.from_local"):
        await Dir.from_local(place / "file")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        await Dir[str](path=str(place / "nowhere")).list_files()
    copy = await File[str](path=str(place / "file")).download(f"{place}/new/")
    assert copy == str(place / "new" / "file")


@pytest.mark.usefixtures("place")
def test_an_empty_folder_arrives_as_one() -> None:
    empty = EmptyDir()
    assert isinstance(empty, Dir)
    arrived = decode(encode(empty, Dir), Dir)
    assert (type(arrived), arrived.is_empty) == (Dir, True)
    assert decode(encode(empty, EmptyDir), EmptyDir).path == empty.path


def test_json_that_is_no_file_is_refused_with_its_fields() -> None:
    assert decode(b'{"path": "/a", "name": null}', File) == File(path="/a")
    with pytest.raises(ValueError, match="no field 'size'; its fields are path, name, format"):
        Document.model_validate({"text": {"path": "/a", "size": 3}})
    with pytest.raises(flyte.errors.InvalidInputError, match="a path, or an object with `path`"):
        decode(b'{"name": "a"}', File)


class Document(BaseModel):
    text: File[str]
    parts: list[File[str]] = []
    others: dict[str, Dir[str]] = {}
    table: DataFrame | None = None


@env.task
async def reads(document: Document) -> None: ...


@env.task
async def reads_anything(value: Any) -> None: ...


def key(task: Any, value: Any) -> str:
    (spec,) = task.interface.spec().inputs
    data = encode({spec.name: value}, dict[str, Document] if task is reads else dict[str, Any])
    return key_of(("p", "d", task.name), CacheSpec(version="1"), task.interface.spec(), data)


@pytest.mark.parametrize("task", [reads, reads_anything], ids=["in a model", "where no type is declared"])
def test_for_the_cache_a_file_counts_by_its_content_wherever_it_is(task: Any, tmp_path: Path) -> None:
    def with_file(name: str, content: str, **fields: Any) -> str:
        path = tmp_path / name
        path.write_text(content)
        document = Document(text=File(path=str(path), **fields), parts=[File(path=str(path))])
        value: Any = document if task is reads else [{"in": File(path=str(path), **fields)}, File(path=str(path))]
        return key(task, value)

    assert with_file("one", "a") == with_file("two", "a")
    assert with_file("one", "a") != with_file("two", "b")
    assert with_file("one", "a", hash="h") != with_file("one", "a")


def test_for_the_cache_a_folder_and_a_frame_in_a_model_count_by_their_content(tmp_path: Path) -> None:
    def with_folder(name: str, content: str, rows: str = "x\n1\n") -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "part").write_text(content)
        (tmp_path / f"{name}.csv").write_text(rows)
        table = DataFrame(str(tmp_path / f"{name}.csv"))
        text: File[str] = File(path=str(folder / "part"))
        return key(reads, Document(text=text, others={"d": Dir(path=str(folder))}, table=table))

    assert with_folder("one", "a") == with_folder("two", "a")
    assert with_folder("one", "a") != with_folder("two", "a", "x\n2\n")
    assert with_folder("one", "a") != with_folder("two", "b")

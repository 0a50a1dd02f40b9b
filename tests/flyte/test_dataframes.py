"""Data frames: what one library writes, each of the others reads, and the value is the place of a file."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

import flyte
from flyte._values import decode, encode
from flyte.errors import InvalidInputError
from flyte.io import DataFrame, EmptyDir, HashFunction

pandas: Any = pytest.importorskip("pandas")
pyarrow: Any = pytest.importorskip("pyarrow")
polars: Any = importlib.import_module("polars") if importlib.util.find_spec("polars") else None

ROWS = 70_000
"""More than travels in the value itself."""

CLASSES = [pandas.DataFrame, pyarrow.Table, *([polars.DataFrame] if polars else [])]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def a_frame(cls: Any, rows: int = ROWS) -> Any:
    table = pyarrow.table({"x": list(range(rows)), "word": ["w"] * rows})
    return table if cls is pyarrow.Table else table.to_pandas() if cls is pandas.DataFrame else polars.from_arrow(table)


def total(frame: Any) -> int:
    column = frame["x"]
    return int(column.to_pandas().sum() if isinstance(frame, pyarrow.Table) else column.sum())


@pytest.mark.parametrize("written", CLASSES)
@pytest.mark.parametrize("read", CLASSES)
@pytest.mark.parametrize("rows", [3, ROWS])
def test_what_one_library_writes_each_other_reads(written: Any, read: Any, rows: int) -> None:
    found = decode(encode(a_frame(written, rows), written), read)
    assert isinstance(found, read)
    assert total(found) == rows * (rows - 1) // 2


@pytest.mark.parametrize("cls", CLASSES)
async def test_a_frame_is_wrapped_sent_and_read_whole_and_in_parts(cls: Any) -> None:
    sent = decode(encode(DataFrame.wrap_df(a_frame(cls)), DataFrame), DataFrame)
    assert sent.val is None
    assert sent.preview["rows"] == ROWS
    assert total(await sent.open(cls).all()) == ROWS * (ROWS - 1) // 2
    assert [len(part) async for part in sent.open(cls).iter()] == [65_536, ROWS - 65_536]
    assert sum([len(part) async for part in await sent.open(cls).iter()]) == ROWS


def test_annotated_names_the_format_and_the_hash() -> None:
    as_csv = json.loads(encode(DataFrame.from_df(a_frame(pandas.DataFrame)), Annotated[DataFrame, "csv"]))
    assert Path(as_csv["uri"]).read_text().startswith("x,word\n0,w\n")
    assert total(decode(json.dumps(as_csv), pandas.DataFrame)) == total(a_frame(pandas.DataFrame))
    hashed = HashFunction.from_fn(lambda frame: f"rows={len(frame)}")
    assert json.loads(encode(a_frame(pandas.DataFrame, 3), Annotated[pandas.DataFrame, hashed]))["hash"] == "rows=3"


async def test_from_local_writes_at_once_and_its_hash_is_of_the_content(tmp_path: Path) -> None:
    one = await DataFrame.from_local(a_frame(pandas.DataFrame, 3))
    other = DataFrame.from_local_sync(a_frame(pandas.DataFrame, 3), remote_destination=str(tmp_path / "t.parquet"))
    assert one.hash == other.hash
    assert other.uri == str(tmp_path / "t.parquet")
    assert len(DataFrame.from_existing_remote(other.uri).open(pandas.DataFrame).all_sync()) == 3


def test_a_frame_travels_inside_of_a_model() -> None:
    class Holder(BaseModel):
        data: DataFrame
        label: str

    held = decode(encode(Holder(data=DataFrame.wrap_df(a_frame(pandas.DataFrame, 3)), label="a"), Holder), Holder)
    assert len(held.data.open(pandas.DataFrame).all_sync()) == 3


def test_what_is_not_a_frame_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="str is not a data frame"):
        encode(DataFrame.wrap_df("text"), DataFrame)
    with pytest.raises(InvalidInputError, match="neither a frame nor a uri"):
        encode(DataFrame(), DataFrame)
    with pytest.raises(TypeError, match="not a known data frame"):
        DataFrame.wrap_df(a_frame(pandas.DataFrame, 3)).open(dict)
    with pytest.raises(ValueError, match="choose the class"):
        DataFrame("/t.parquet").all_sync()


def test_a_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(pyarrow.ArrowException, match="int"):
        DataFrame.from_local_sync(pandas.DataFrame({"x": [1, "a"]}), remote_destination=str(tmp_path / "t.parquet"))
    assert not list(tmp_path.rglob("*.parquet"))


def test_tasks_pass_frames_in_local_mode() -> None:
    env = flyte.TaskEnvironment(name="frames")

    @env.task
    def make(rows: int) -> DataFrame:
        return DataFrame.from_df(a_frame(pandas.DataFrame, rows))

    @env.task
    def count(df: pandas.DataFrame) -> int:
        return len(df)

    @env.task
    def main(rows: int) -> int:
        return count(make(rows))

    flyte.init()
    assert flyte.run(main, rows=5).outputs()[0] == 5


def test_an_empty_folder_says_so() -> None:
    assert EmptyDir().is_empty

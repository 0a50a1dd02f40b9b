"""Plugins for data frames and files: classes that they register, and what they make of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import typing
from pathlib import Path
from typing import Annotated, Any

import pytest
from flyteidl2.core import literals_pb2

from flyte._values import from_json, registered, to_json
from flyte.errors import InvalidInputError
from flyte.io import PARQUET, DataFrame, File
from flyte.io._dir import DirTransformer
from flyte.io._file import FileTransformer
from flyte.io.extend import DataFrameDecoder, DataFrameEncoder, DataFrameTransformerEngine
from flyte.types import TypeEngine, TypeTransformer, TypeTransformerFailedError

pd: Any = pytest.importorskip("pandas")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TypeEngine, "_REGISTRY", {})
    monkeypatch.setattr(registered, "_makers", {})
    monkeypatch.setattr(DataFrameTransformerEngine, "_ENCODERS", {})
    monkeypatch.setattr(DataFrameTransformerEngine, "_DECODERS", {})


class Grid:
    """A frame of a library that nobody knows."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows


def _write(path: str, rows: list[list[int]]) -> None:
    Path(path).write_text(json.dumps(rows))


def _read(path: str) -> Any:
    return json.loads(Path(path).read_text())


class GridEncoder(DataFrameEncoder[Grid]):
    def __init__(self) -> None:
        super().__init__(Grid, None, "json")

    async def encode(self, dataframe: DataFrame, structured_dataset_type: Any) -> Any:
        _write(str(dataframe.uri), dataframe.val.rows)
        metadata = literals_pb2.StructuredDatasetMetadata(structured_dataset_type=structured_dataset_type)
        return literals_pb2.StructuredDataset(uri=dataframe.uri, metadata=metadata)


class GridDecoder(DataFrameDecoder[Grid]):
    def __init__(self) -> None:
        super().__init__(Grid, None, "json")

    async def decode(self, flyte_value: Any, current_task_metadata: Any) -> Grid:
        assert current_task_metadata.structured_dataset_type.format == "json"
        return Grid(_read(flyte_value.uri))


def test_a_frame_of_another_library_is_written_by_its_encoder_and_read_by_its_decoder() -> None:
    DataFrameTransformerEngine.register(GridEncoder(), default_format_for_type=True)
    DataFrameTransformerEngine.register(GridDecoder())
    data = to_json([Grid([[1, 2]])], list[Grid])
    assert set(data[0]) == {"$literal"}
    assert from_json(data, list[Grid])[0].rows == [[1, 2]]
    with pytest.raises(ValueError, match="has a GridEncoder already"):
        DataFrameTransformerEngine.register(GridEncoder())


def test_what_is_registered_for_frames_of_pandas_changes_nothing() -> None:
    class Never(DataFrameEncoder[Any]):
        def __init__(self) -> None:
            super().__init__(pd.DataFrame, None, PARQUET)

    DataFrameTransformerEngine.register(Never())
    frame = pd.DataFrame({"a": [1]})
    assert from_json(to_json(frame, pd.DataFrame), pd.DataFrame).equals(frame)


T = typing.TypeVar("T")


class Checked(typing.Generic[T]):
    """An annotation for a frame of pandas that keeps a schema."""


class NoNegatives:
    pass


class CheckedTransformer(TypeTransformer[Any]):
    """In the way of plugins that validate frames: around the engine's own conversion."""

    def __init__(self) -> None:
        super().__init__("Checked", Checked)
        self._frames = DataFrameTransformerEngine()
        self.annotations: list[Any] = []

    def get_literal_type(self, t: Any) -> Any:
        return TypeEngine.to_literal_type(pd.DataFrame)

    def assert_type(self, t: Any, v: Any) -> None:
        if not isinstance(v, pd.DataFrame):
            raise TypeTransformerFailedError(f"Expected a frame, got {type(v)}")

    async def to_literal(self, python_val: Any, python_type: Any, expected: Any) -> Any:
        self.annotations.append(python_type)
        if (python_val < 0).any().any():
            raise ValueError("a negative number")
        return await self._frames.to_literal(python_val, pd.DataFrame, expected)

    async def to_python_value(self, lv: Any, expected_python_type: Any) -> Any:
        assert lv.scalar.structured_dataset.uri
        return await self._frames.to_python_value(lv, pd.DataFrame)


def test_a_plugin_may_check_frames_that_an_annotation_describes() -> None:
    transformer = CheckedTransformer()
    TypeEngine.register_additional_type(transformer, Checked, override=True)
    annotation = Annotated[Checked[NoNegatives], "config"]
    frame = pd.DataFrame({"a": [1, 2]})
    assert from_json(to_json(frame, annotation), annotation).equals(frame)
    assert transformer.annotations == [annotation]
    with pytest.raises(InvalidInputError, match=r"its transformer 'Checked' failed with ValueError: a negative number"):
        to_json(pd.DataFrame({"a": [-1]}), annotation)
    with pytest.raises(InvalidInputError, match=r"must be .*Checked.*, not 5 \(int\)"):
        to_json(5, annotation)


class Lines(File[Any]):
    def count(self) -> int:
        return 1


def test_a_plugins_subclass_of_file_travels_as_a_file() -> None:
    TypeEngine.register_additional_type(FileTransformer(), Lines)
    assert DirTransformer().name == "Dir"
    found = from_json(to_json(Lines("/a/b.txt"), Lines), Lines)
    assert (type(found), found.path) == (Lines, "/a/b.txt")


def test_a_plugin_that_imports_us_is_loaded_after_we_are(tmp_path: Path) -> None:
    (tmp_path / "eager.py").write_text(
        "from flyte.extend import TaskTemplate\nfrom flyte.io._dataframe.dataframe import PARQUET, DataFrame\n"
    )
    info = tmp_path / "flyteplugins_eager-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flyteplugins-eager\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flyte.plugins.types]\neager = eager\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import flyte.extend, flyte.io; from flyte import _plugins"
    )
    more = "; assert 'eager' not in sys.modules; _plugins.load_types(); print('eager' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + more], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")

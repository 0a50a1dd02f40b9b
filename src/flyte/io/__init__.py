"""Files, folders and data frames as inputs and outputs: the value is the path or URI, not the content."""

from typing import Any

from flyte._absent import missing
from flyte._values.dataframes import register_located
from flyte._values.frame_kinds import PARQUET
from flyte._values.hashes import HashFunction
from flyte._values.untyped import register
from flyte.io._dir import Dir, EmptyDir
from flyte.io._file import File
from flyte.io._frame import DataFrame

__all__ = ["PARQUET", "DataFrame", "Dir", "EmptyDir", "File", "HashFunction"]

register("$file", File, File.__flyte_codec__())
register("$dir", Dir, Dir.__flyte_codec__())
register_located(DataFrame)
register("$dataframe", DataFrame, DataFrame.__flyte_codec__())


def __getattr__(name: str) -> Any:
    raise missing("flyte.io", name)

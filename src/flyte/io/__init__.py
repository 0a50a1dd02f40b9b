"""Files and folders as inputs and outputs: the value is the path or URI, not the content."""

from typing import Any

from flyte._absent import missing
from flyte._values.untyped import register
from flyte.io._dir import Dir
from flyte.io._file import File

__all__ = ["Dir", "File"]

register("$file", File, File.__flyte_codec__())
register("$dir", Dir, Dir.__flyte_codec__())


def __getattr__(name: str) -> Any:
    raise missing("flyte.io", name)

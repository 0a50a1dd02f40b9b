"""Data frames: small ones travel as Parquet in the value, others as the place of a file."""

from __future__ import annotations

import base64
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from flyte._values import frame_kinds
from flyte._values import pickles as _pickles
from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas
from flyte._values.frame_kinds import PARQUET, Kind
from flyte._values.hashes import HashMethod, hash_of

MARK = "$parquet"
"""The key of a small frame that travels in the value itself, as base64."""

_IN_VALUE = 64 * 1024
"""Bytes of Parquet up to which a frame travels in the value itself."""

_NO_COLUMN_TYPE = (ValueError, TypeError, ArithmeticError)
"""What the libraries raise for columns that Parquet has no type for."""


_located: list[Any] = []
"""`flyte.io.DataFrame`, which knows the places of files. It registers itself, since it is on a higher floor."""


def register_located(cls: Any) -> None:
    """Say which class stores frames in files and reads them."""
    _located[:] = [cls]


def located_class() -> Any:
    """The class that `flyte.io` registered; whatever runs tasks or reads their values imports that first."""
    if not _located:
        raise RuntimeError("import flyte.io before a data frame that is in a file is read or written")
    return _located[0]


def _is_located(value: Any) -> bool:
    return bool(_located) and isinstance(value, _located[0])


class FrameCodec(Codec):
    """A frame of pandas, polars or pyarrow. JSON from elsewhere may also be a list of records, or of columns."""

    def __init__(self, cls: Any, kind: Kind, format: str = "", hash_method: Any = None) -> None:
        self.cls = self.exact = cls
        self.kind = kind
        self.name = kind.name.rpartition(".")[2]
        self._format, self._hash_method = format, hash_method

    def annotated(self, metadata: tuple[Any, ...]) -> Codec:
        """The codec with the format and the hash that `Annotated` names."""
        return FrameCodec(self.cls, self.kind, *_named(metadata))

    def _dump(self, value: Any) -> Any:
        if _is_located(value):
            return value.to_json(self._format)
        if not isinstance(value, self.cls):
            raise Mismatch(self.name, value)
        if self._format in ("", PARQUET) and self._hash_method is None:
            return self._dump_parquet(value)
        return self._located(value)

    def _dump_parquet(self, value: Any) -> Any:
        if self.kind.name == "pandas.DataFrame" and importlib.util.find_spec("pyarrow") is None:
            return _pickles.dump(value)
        rows = self.kind.rows(value)
        try:
            if rows is None or rows > _IN_VALUE:
                return self._located(value)
            return self._in_value(value) or self._located(value)
        except _NO_COLUMN_TYPE:
            return _pickles.dump(value)

    def _in_value(self, value: Any) -> Any:
        """The frame as text, unless it is too large for that."""
        with tempfile.TemporaryDirectory(prefix="flyte-frame-") as folder:
            path = Path(folder, "frame.parquet")
            self.kind.write(value, path, PARQUET)
            if path.stat().st_size > _IN_VALUE:
                return None
            return {MARK: base64.b64encode(path.read_bytes()).decode()}

    def _located(self, value: Any) -> Any:
        located = located_class().wrap_df(value)
        located.hash = hash_of(value, self._hash_method)
        return located.to_json(self._format)

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(data, self.cls):
            return data
        if _pickles.is_pickle(data):
            return _pickles.load(data)
        if _is_located(data):
            return data.open(self.cls).all_sync()
        if isinstance(data, dict) and MARK in data:
            return self._from_bytes(base64.b64decode(data[MARK]))
        if isinstance(data, dict) and ({"uri", "path"} & set(data)) and isinstance(data.get("format", ""), str):
            return located_class().from_json(data).open(self.cls).all_sync()
        if frame_kinds.kind_of(type(data)) is not None:
            return located_class().wrap_df(data).open(self.cls).all_sync()
        if strict or not isinstance(data, list | dict):
            raise Mismatch("DataFrame (a list of records, or an object of columns)", data)
        return self._from_records(data)

    def _from_bytes(self, content: bytes) -> Any:
        with tempfile.NamedTemporaryFile(prefix="flyte-frame-", suffix=".parquet") as file:
            file.write(content)
            file.flush()
            frame = self.kind.read(Path(file.name), PARQUET)
            return frame.collect().lazy() if self.kind.name == "polars.LazyFrame" else frame

    def _from_records(self, data: Any) -> Any:
        try:
            return self.kind.of_json(self.cls, data)
        except _NO_COLUMN_TYPE as error:
            raise Mismatch(self.name, data, str(error)) from None

    def schema(self, schemas: Schemas) -> JsonSchema:
        return {"type": "object", "title": self.name, "format": "parquet"}


class DataFrameCodec(Codec):
    """`flyte.io.DataFrame`: the place of a file. A frame of a library is taken, too."""

    name = "DataFrame"

    def __init__(self, cls: Any, format: str = "", hash_method: Any = None) -> None:
        self.cls = self.exact = cls
        self._format, self._hash_method = format, hash_method

    def annotated(self, metadata: tuple[Any, ...]) -> Codec:
        """The codec with the format and the hash that `Annotated` names."""
        return DataFrameCodec(self.cls, *_named(metadata))

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Mismatch(self.name, value)
        if self._hash_method is not None and value.hash is None and value.val is not None:
            value.hash = hash_of(value.val, self._hash_method)
        try:
            return value.to_json(self._format)
        except (ValueError, TypeError) as error:
            raise Mismatch("a data frame that can be written", value, str(error)) from None

    def _load(self, data: Any, strict: bool) -> Any:
        try:
            return self.cls.from_json(data)
        except (TypeError, ValueError) as error:
            raise Mismatch(self.name, data, str(error)) from None

    def schema(self, schemas: Schemas) -> JsonSchema:
        return {"type": "object", "title": self.name, "format": "parquet"}


def _named(metadata: tuple[Any, ...]) -> tuple[str, Any]:
    """The format and the hash method among what follows the type in `Annotated[T, …]`."""
    formats = [mark for mark in metadata if isinstance(mark, str) and mark in frame_kinds.FORMATS]
    hashes = [mark for mark in metadata if isinstance(mark, HashMethod)]
    return (formats[0] if formats else ""), (hashes[0] if hashes else None)

"""`DataFrame`: a data frame of any library as an input or output. The value is the place of its file."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Generator, Mapping
from pathlib import Path
from typing import Any, Self

from flyte._values import frame_kinds
from flyte._values.dataframes import MARK
from flyte._values.frame_kinds import PARQUET, Kind
from flyte._values.hashes import HashMethod, hash_of
from flyte.atomic import UNFINISHED
from flyte.io import _blob, _place
from flyte.io._located import pydantic_schema
from flyte.object_store import is_object
from flyte.storage._new_files import new_address


class DataFrame:
    """A data frame by the place of its file; `open(pandas.DataFrame)` and `all()` read it.

    Classes of frames: pandas.DataFrame, polars.DataFrame, polars.LazyFrame and pyarrow.Table. The libraries are
    optional, and a frame that was written by one can be read by another.
    """

    def __init__(
        self,
        uri: str | None = None,
        format: str | None = "",
        hash: str | None = None,
        preview: Mapping[str, Any] | None = None,
    ) -> None:
        self.uri = uri
        self.format = format or ""
        self.hash = hash
        self.preview = preview
        """Number of rows, columns and first rows as text, where they are known."""
        self._frame: Any = None
        self._type: Any = None

    @classmethod
    def wrap_df(cls, val: Any = None, uri: str | None = None) -> Self:
        """A frame of this process. It is written to a file, at `uri` if given, when it goes to another action."""
        wrapped = cls(uri=uri)
        wrapped._frame = val
        return wrapped

    @classmethod
    def from_df(cls, val: Any = None, uri: str | None = None) -> Self:
        """The older name of `wrap_df`."""
        return cls.wrap_df(val, uri)

    @classmethod
    def from_existing_remote(cls, remote_path: str, format: str | None = None, **fields: Any) -> Self:
        """A file that is there already. Its format is that of its suffix, or Parquet, unless it is given."""
        return cls(uri=remote_path, format=format, **fields)

    @classmethod
    def from_local_sync(
        cls,
        df: Any,
        columns: Mapping[str, Any] | None = None,
        remote_destination: str | None = None,
        hash_method: HashMethod | str | None = None,
    ) -> Self:
        """Write a frame where other actions can read it, or to `remote_destination`.

        Without a `hash_method`, the hash is the sha256 of the file. With `columns`, only these are kept.
        """
        frame = df[list(columns)] if columns else df
        made = cls.wrap_df(frame, remote_destination)
        made.hash = hash_of(frame, hash_method)
        made._write("")
        return made

    @classmethod
    async def from_local(
        cls,
        df: Any,
        columns: Mapping[str, Any] | None = None,
        remote_destination: str | None = None,
        hash_method: HashMethod | str | None = None,
    ) -> Self:
        """`from_local_sync`, without blocking the event loop."""
        return await asyncio.to_thread(cls.from_local_sync, df, columns, remote_destination, hash_method)

    @property
    def val(self) -> Any:
        """The frame that was wrapped in this process; None for one that is only known by its place."""
        return self._frame

    def open(self, dataframe_type: type) -> Self:
        """Choose the class that `all` and `iter` return. Raises TypeError for a class that is not a data frame."""
        if frame_kinds.kind_of(dataframe_type) is None:
            raise TypeError(f"{dataframe_type!r} is not a known data frame; use one of pandas, polars or pyarrow")
        self._type = dataframe_type
        return self

    def all_sync(self) -> Any:
        """The whole frame, of the class that `open` was given; without one, of the class that was wrapped."""
        if self._frame is not None and (self._type is None or isinstance(self._frame, self._type)):
            return self._frame
        kind = self._kind()
        self._write("")
        return kind.read(self._path(), self._format())

    async def all(self) -> Any:
        """`all_sync`, without blocking the event loop."""
        return await asyncio.to_thread(self.all_sync)

    def iter(self) -> Parts:
        """The frame in parts of some ten thousand rows: `async for part in df.open(pandas.DataFrame).iter()`."""
        kind = self._kind()
        return Parts(self, kind)

    def _kind(self) -> Kind:
        kind = frame_kinds.kind_of(self._type or type(self._frame))
        if kind is None:
            raise ValueError("choose the class to read first: df.open(pandas.DataFrame).all()")
        return kind

    def _format(self) -> str:
        return frame_kinds.format_of(self.uri or "", self.format)

    def _path(self) -> Path:
        return _place.readable(str(self.uri))

    def _write(self, format: str) -> None:
        """Write the wrapped frame to its file, once. Raises TypeError for a value that is not a data frame."""
        if self._frame is None or self.preview is not None:
            return
        kind = frame_kinds.kind_of(type(self._frame))
        if kind is None:
            raise TypeError(f"a {type(self._frame).__qualname__} is not a data frame of pandas, polars or pyarrow")
        self.format = frame_kinds.format_of(self.uri or "", format or self.format)
        self.uri, digest = stored(kind, self._frame, self.format, self.uri)
        self.hash = self.hash or digest
        self.preview = frame_kinds.preview(kind, self._frame)

    def to_json(self, format: str = "") -> dict[str, Any]:
        """The JSON form; a wrapped frame is written to its file. Raises ValueError where there is neither."""
        self._write(format)
        if self.uri is None:
            raise ValueError("a DataFrame with neither a frame nor a uri cannot be sent")
        fields = {"uri": self.uri, "format": self.format, "hash": self.hash, "preview": self.preview}
        return {name: value for name, value in fields.items() if value}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The value from its JSON form, a path, or a list of records. Raises TypeError for anything else."""
        if hasattr(data, "__flyte_artifact__"):
            data = data.__flyte_artifact__()
        if isinstance(data, cls):
            return data
        if frame_kinds.kind_of(type(data)) is not None:
            return cls.wrap_df(data)
        if isinstance(data, str):
            return cls(uri=data)
        if isinstance(data, Mapping) and MARK in data:
            return cls(*_stored_bytes(base64.b64decode(data[MARK])))
        if isinstance(data, Mapping) and ("uri" in data or "path" in data):
            uri = data.get("uri") or data["path"]
            return cls(uri, data.get("format"), data.get("hash"), data.get("preview"))
        if isinstance(data, list) and all(isinstance(row, Mapping) for row in data):
            return cls.wrap_df(frame_kinds.library("pyarrow").Table.from_pylist(data))
        raise TypeError("DataFrame takes a path, an object with `uri`, or a list of records")

    def get_flyte_metadata(self) -> Any:
        """What `flyte.artifacts.new` said of this value. Raises AttributeError for a value that is not an artifact."""
        return object.__getattribute__(self, "_flyte_metadata")

    def __repr__(self) -> str:
        return f"DataFrame(uri={self.uri!r}, format={self.format!r}, hash={self.hash!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataFrame):
            return NotImplemented
        return self is other or (self.uri is not None and (self.uri, self.format) == (other.uri, other.format))

    def __hash__(self) -> int:
        return id(self) if self.uri is None else hash(self.uri)

    def __reduce__(self) -> Any:
        return type(self).from_json, (self.to_json(),)

    @classmethod
    def __flyte_codec__(cls) -> Any:
        from flyte._values.dataframes import DataFrameCodec

        return DataFrameCodec(cls)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        return {"type": ["string", "object"], "title": "DataFrame", "format": PARQUET}


class Parts:
    """The parts of a frame: `async for` over it, or over what awaiting it gives."""

    def __init__(self, frame: DataFrame, kind: Kind) -> None:
        self._frame, self._kind = frame, kind

    def __await__(self) -> Generator[Any, None, Parts]:
        yield from asyncio.sleep(0).__await__()
        return self

    async def __aiter__(self) -> AsyncIterator[Any]:
        await asyncio.to_thread(self._frame._write, "")
        path = await asyncio.to_thread(self._frame._path)
        parts = frame_kinds.parts(path, self._frame._format(), self._kind)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            yield part


def stored(kind: Kind, frame: Any, format: str, destination: str | None = None) -> tuple[str, str]:
    """Write a frame to a file that other actions can read. Returns its place and the sha256 of its content.

    The file appears under its name when it is whole.
    """
    address = destination or new_address(f"frame.{format}")
    target = _place.new_path(f"frame.{format}") if is_object(address) else _place.writable(address)
    unfinished = target.with_name(UNFINISHED + target.name)
    try:
        kind.write(frame, unfinished, format)
        with unfinished.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        unfinished.rename(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if is_object(address):
        sent = _place.keep(target, address)
    elif destination or _place.is_shared():
        return str(target), digest
    else:
        sent = _blob.send(target)
    target.unlink()
    return sent, digest


def _stored_bytes(content: bytes) -> tuple[str, str, str]:
    target = _place.new_path(f"frame.{PARQUET}")
    target.write_bytes(content)
    return str(target), PARQUET, hashlib.sha256(content).hexdigest()

"""Data frames: as Parquet where pyarrow is there to write it, else pickled."""

from __future__ import annotations

import base64
import importlib.util
import io
from typing import Any

from flyte._values import pickles as _pickles
from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas

MARK = "$parquet"


class PandasCodec(Codec):
    """A pandas DataFrame. JSON from elsewhere may also be a list of records, or an object of columns."""

    def __init__(self, cls: Any) -> None:
        self.cls = self.exact = cls
        self.name = "DataFrame"

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Mismatch(self.name, value)
        if importlib.util.find_spec("pyarrow") is None:
            return _pickles.dump(value)
        file = io.BytesIO()
        try:
            value.to_parquet(file, engine="pyarrow")
        except (ValueError, TypeError, ArithmeticError):  # columns that Parquet has no type for
            return _pickles.dump(value)
        return {MARK: base64.b64encode(file.getvalue()).decode()}

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(data, self.cls):
            return data
        if _pickles.is_pickle(data):
            return _pickles.load(data)
        if isinstance(data, dict) and set(data) == {MARK}:
            import pandas  # type: ignore[import-untyped, unused-ignore]

            return pandas.read_parquet(io.BytesIO(base64.b64decode(data[MARK])), engine="pyarrow")
        if strict or not isinstance(data, list | dict):
            raise Mismatch("DataFrame (a list of records, or an object of columns)", data)
        try:
            return self.cls(data)
        except ValueError as error:
            raise Mismatch(self.name, data, str(error)) from None

    def schema(self, schemas: Schemas) -> JsonSchema:
        return {"type": "object", "title": self.name, "format": "parquet"}

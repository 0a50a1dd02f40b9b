"""Data frames of other libraries: how a program or a plugin says in which form they are written and read.

Frames of pandas, polars and pyarrow need nothing of this: what is registered for them is accepted and not used. For any
other class an encoder writes the frame to the place that it is given, and a decoder reads it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from flyte._values import frame_kinds, registered
from flyte._values.frame_kinds import PARQUET
from flyte.io import _place
from flyte.io._frame import DataFrame
from flyte.types import TypeTransformer, TypeTransformerFailedError

T = TypeVar("T")

__all__ = ["DataFrameDecoder", "DataFrameEncoder", "DataFrameTransformerEngine"]


class DataFrameHandler(Generic[T]):
    """For frames of which class, and in which format, an encoder or a decoder is."""

    def __init__(self, python_type: type[T], protocol: str | None = None, supported_format: str | None = None) -> None:
        self.python_type = python_type
        self.protocol = protocol.removesuffix("://") if protocol else None
        self.supported_format = supported_format or ""


class DataFrameEncoder(DataFrameHandler[T]):
    """Writes frames. Subclasses write `encode`."""

    async def encode(self, dataframe: DataFrame, structured_dataset_type: Any) -> Any:
        """Write `dataframe.val` below `dataframe.uri`, and return a `StructuredDataset` (of flyteidl2)."""
        raise NotImplementedError("encode")


class DataFrameDecoder(DataFrameHandler[T]):
    """Reads frames. Subclasses write `decode`."""

    async def decode(self, flyte_value: Any, current_task_metadata: Any) -> T:
        """The frame that a `StructuredDataset` (of flyteidl2) stands for."""
        raise NotImplementedError("decode")


class DataFrameTransformerEngine(TypeTransformer[Any]):
    """The encoders and decoders by the classes of frames."""

    _ENCODERS: ClassVar[dict[Any, DataFrameEncoder[Any]]] = {}
    _DECODERS: ClassVar[dict[Any, DataFrameDecoder[Any]]] = {}

    def __init__(self) -> None:
        super().__init__("DataFrame", DataFrame, enable_type_assertions=False)

    @classmethod
    def register(
        cls,
        handler: DataFrameEncoder[Any] | DataFrameDecoder[Any],
        default_for_type: bool = False,
        override: bool = False,
        default_format_for_type: bool = False,
        default_storage_for_type: bool = False,
    ) -> None:
        """Use a handler for frames of its class. Raises ValueError for a second one, unless it may `override`."""
        if frame_kinds.kind_of(handler.python_type) is not None:
            return
        handlers: dict[Any, Any] = cls._ENCODERS if isinstance(handler, DataFrameEncoder) else cls._DECODERS
        if handler.python_type in handlers and not override:
            raise ValueError(f"{handler.python_type} has a {type(handler).__name__} already")
        handlers[handler.python_type] = handler
        registered.register(handler.python_type, cls().codec)

    def assert_type(self, t: Any, v: Any) -> None:
        """Accept every value: whether it is a frame, its encoder finds out."""

    def get_literal_type(self, t: Any) -> Any:
        from flyteidl2.core import types_pb2

        return types_pb2.LiteralType(structured_dataset_type=types_pb2.StructuredDatasetType(format=PARQUET))

    async def to_literal(self, python_val: Any, python_type: Any, expected: Any) -> Any:
        """The literal with the place of a frame, which is written there."""
        from flyteidl2.core import literals_pb2

        kind = self.get_literal_type(python_type).structured_dataset_type
        encoder = self._of(self._ENCODERS, python_type)
        if encoder is not None:
            frame = DataFrame.wrap_df(python_val, str(_place.new_path("frame")))
            kind.format = encoder.supported_format
            found = await encoder.encode(frame, kind)
        else:
            frame = python_val if isinstance(python_val, DataFrame) else DataFrame.wrap_df(python_val)
            data = frame.to_json()
            kind.format = data.get("format", PARQUET)
            metadata = literals_pb2.StructuredDatasetMetadata(structured_dataset_type=kind)
            found = literals_pb2.StructuredDataset(uri=data["uri"], metadata=metadata)
        return literals_pb2.Literal(scalar=literals_pb2.Scalar(structured_dataset=found))

    async def to_python_value(self, lv: Any, expected_python_type: Any) -> Any:
        """The frame, of the class that the annotation names."""
        found = lv.scalar.structured_dataset
        decoder = self._of(self._DECODERS, expected_python_type)
        if decoder is not None:
            return await decoder.decode(found, found.metadata)
        kind = found.metadata.structured_dataset_type
        frame = DataFrame(found.uri, kind.format)
        if expected_python_type is DataFrame:
            return frame
        try:
            return await frame.open(expected_python_type).all()
        except TypeError as error:
            raise TypeTransformerFailedError(str(error)) from None

    @staticmethod
    def _of(handlers: dict[Any, Any], annotation: Any) -> Any:
        return next((handlers[known] for known in registered.ancestry(annotation) if known in handlers), None)

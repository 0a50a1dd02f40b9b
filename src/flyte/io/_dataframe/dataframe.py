"""A private module of Flyte's that plugins import; see `flyte.io.extend`."""

from flyte._values.frame_kinds import PARQUET
from flyte.io._frame import DataFrame
from flyte.io.extend import DataFrameDecoder, DataFrameEncoder, DataFrameTransformerEngine

__all__ = ["PARQUET", "DataFrame", "DataFrameDecoder", "DataFrameEncoder", "DataFrameTransformerEngine"]

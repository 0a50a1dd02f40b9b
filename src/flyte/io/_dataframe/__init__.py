"""A private package of Flyte's that plugins import; see `flyte.io.extend`."""

from flyte.io._dataframe.dataframe import DataFrame, DataFrameDecoder, DataFrameEncoder, DataFrameTransformerEngine

__all__ = ["DataFrame", "DataFrameDecoder", "DataFrameEncoder", "DataFrameTransformerEngine"]

"""Types of your own: how values travel between actions whose class Flyte knows nothing of.

A dataclass or a pydantic model needs nothing of this. For other classes write a `TypeTransformer` and register it with
`TypeEngine.register`; without one their values are pickled. A plugin registers its transformers in an entry point
`flyte.plugins.types`.
"""

from typing import Any

from flyte._absent import missing
from flyte._values.transformers import TypeTransformer, TypeTransformerFailedError
from flyte.types._pickle import FlytePickle
from flyte.types._type_engine import TypeEngine

__all__ = ["FlytePickle", "TypeEngine", "TypeTransformer", "TypeTransformerFailedError"]


def __getattr__(name: str) -> Any:
    raise missing("flyte.types", name)

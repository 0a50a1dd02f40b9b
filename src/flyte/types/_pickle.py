"""`FlytePickle`: an annotation for values that are meant to be pickled."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from flyte._values.codec import Codec
from flyte._values.untyped import PickledCodec

T = TypeVar("T")


class FlytePickle(Generic[T]):
    """An input or output of any class: `FlytePickle`, or `FlytePickle[Model]` for values of that class.

    The value itself is passed, not a FlytePickle. It is pickled without the warning that other pickled values give.
    """

    _python_type: Any = None

    @classmethod
    def python_type(cls) -> Any:
        """The class in the brackets; `NoneType` without brackets."""
        return cls._python_type or type(None)

    @classmethod
    def __class_getitem__(cls, python_type: Any) -> Any:
        name = f"FlytePickle[{getattr(python_type, '__qualname__', python_type)}]"
        return type(name, (FlytePickle,), {"_python_type": python_type})

    @classmethod
    def __flyte_codec__(cls) -> Codec:
        return PickledCodec(cls._python_type, cls.__name__, is_meant=True)

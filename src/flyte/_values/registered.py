"""Classes that programs and plugins registered with `flyte.types.TypeEngine`, and the codecs of their values."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from flyte import _plugins
from flyte._values.codec import Codec

CodecMaker = Callable[[Any], Codec]
"""Makes the codec of an annotation, which is the registered class, a subclass of it or a generic form."""

_makers: dict[Any, CodecMaker] = {}
_changes = 0


def register(cls: Any, make: CodecMaker) -> None:
    """Let the values of a class travel by the codec that `make` makes, from now on."""
    global _changes
    _makers[cls] = make
    _changes += 1


def state() -> int:
    """A number that changes with every registration: a codec that was made under another number may be outdated."""
    _plugins.load_types()
    return _changes


def find(annotation: Any) -> Codec | None:
    """The codec of a registered class, of a subclass of it, or of a generic form such as `Frame[Schema]`."""
    if not _makers:
        return None
    return next((_makers[known](annotation) for known in ancestry(annotation) if known in _makers), None)


def ancestry(annotation: Any) -> list[Any]:
    """What may be registered for an annotation, the most special first."""
    cls = typing.get_origin(annotation) or annotation
    found = [annotation, *getattr(cls, "__mro__", (cls,))]
    return found if _is_hashable(annotation) else found[1:]


def _is_hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:  # a generic form with arguments such as lists
        return False
    return True

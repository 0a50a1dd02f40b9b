"""Exception classes that are two at once: an error's own class, and the class of the exception that it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

E = TypeVar("E", bound=BaseException)

_mixtures: dict[tuple[type[BaseException], type[BaseException]], type[BaseException]] = {}


def blanks(error: type[E], original: type[BaseException]) -> Iterator[E]:
    """Instances of `error` that are also of the type `original`, or of a base of it, the nearest base first.

    No `__init__` was called for them. No instance is of a type that is not an Exception, nor a StopIteration or
    StopAsyncIteration: Python makes a RuntimeError of those where a coroutine raises them.
    """
    for wanted in original.__mro__:
        if wanted is Exception and wanted is not original:
            return
        if issubclass(wanted, Exception) and not issubclass(wanted, StopIteration | StopAsyncIteration):
            yield from _blanks_of(error, wanted)


def _blanks_of(error: type[E], wanted: type[BaseException]) -> Iterator[E]:
    """Instances from each `__new__` that can make one. Only `error.__new__` can make one that is a MemoryError."""
    for maker in [*(base for base in wanted.__mro__ if issubclass(base, BaseException)), error]:
        try:
            blank: E = maker.__new__(_mixed(error, wanted))  # not `cls.__new__`: OSError's layout accepts only its own
        except Exception:  # noqa: BLE001 - a stranger's class: layouts that do not mix, a `__new__` that asks for more
            continue
        yield blank


def _mixed(error: type[E], original: type[BaseException]) -> type[E]:
    """The class that is both; `original` itself if it is an `error` already."""
    if (error, original) not in _mixtures:
        bases = (original,) if issubclass(original, error) else (error, original)
        names = {"__module__": original.__module__, "__qualname__": original.__qualname__}
        _mixtures[error, original] = type(original.__name__, bases, names)
    return _mixtures[error, original]  # type: ignore[return-value]

"""Errors as users catch them, in the process where they arose and in the one they crossed to."""

from __future__ import annotations

import builtins
import dataclasses
import pickle
from typing import Any, Self

import pydantic
import pytest

from flyte import errors
from flyte._failure import to_error
from flyte._sync import at_once
from flyte.wire import ErrorInfo


@pytest.mark.parametrize("name", ["ValueError", "KeyError", "OSError", "UnicodeDecodeError", "ImportError"])
def test_a_childs_exception_is_caught_by_its_own_type_and_as_a_user_error(name: str) -> None:
    error = errors.make(name, "user", "no good")
    original = __builtins__[name] if isinstance(__builtins__, dict) else getattr(__builtins__, name)
    assert isinstance(error, original)
    assert isinstance(error, errors.RuntimeUserError)
    assert (error.code, str(error), error.kind) == (name, "no good", "user")


def test_an_exception_of_the_users_own_class_is_caught_as_that() -> None:
    class Overheated(Exception):
        pass

    error = errors.user_error("Overheated", "too hot", Overheated)
    assert isinstance(error, Overheated)
    assert isinstance(error, errors.RuntimeUserError)


class Picky(Exception):
    """Cannot be made without an argument."""

    def __new__(cls, needed: str) -> Self:
        return super().__new__(cls, needed)


class Measured(RuntimeError):
    """A RuntimeError, as our own classes are, with arguments of its own."""

    def __init__(self, value: float, unit: str) -> None:
        super().__init__(f"{value} {unit}")


@dataclasses.dataclass(frozen=True)
class Frozen(ValueError):
    """Lets nobody set anything."""

    reason: str


class Guarded(LookupError):
    """Its code is not for others to set."""

    @property
    def code(self) -> str:
        return "mine"


class Registered(KeyError):
    """Wants to know more of what is derived from it."""

    def __init_subclass__(cls, *, needed: str) -> None:
        raise ConnectionError(needed)


class OwnStop(StopIteration):
    pass


STRANGERS = [pydantic.ValidationError, Picky, Measured, Frozen, Guarded, Registered, OwnStop]
PYTHONS = {c: None for c in vars(builtins).values() if isinstance(c, type) and issubclass(c, BaseException)}


@pytest.mark.parametrize("original", [*PYTHONS, *STRANGERS], ids=lambda cls: cls.__name__)
def test_whatever_class_a_task_raises_its_error_arrives_with_its_code_and_can_be_raised(original: Any) -> None:
    info = ErrorInfo(code=original.__name__, message="told", type=f"{original.__module__}:{original.__qualname__}")
    error = to_error(info)
    assert isinstance(error, errors.RuntimeUserError)
    assert (error.code, str(error), error.kind) == (original.__name__, "told", "user")

    async def child() -> None:
        raise error

    with pytest.raises(errors.RuntimeUserError) as raised:
        at_once(child())
    assert raised.value is error


@pytest.mark.parametrize(
    ("original", "caught_as"),
    [
        (Picky, Picky),
        (Measured, Measured),
        (MemoryError, MemoryError),
        (pydantic.ValidationError, ValueError),
        (Frozen, ValueError),
        (Guarded, LookupError),
        (Registered, KeyError),
        (ExceptionGroup, errors.RuntimeUserError),
        (OwnStop, errors.RuntimeUserError),
        (KeyboardInterrupt, errors.RuntimeUserError),
    ],
)
def test_what_cannot_be_had_whole_is_caught_as_the_nearest_of_its_bases(original: Any, caught_as: Any) -> None:
    error = errors.user_error(original.__name__, "told", original)
    assert isinstance(error, caught_as)
    assert not isinstance(error, StopIteration)


def test_an_unknown_exception_keeps_its_name_as_the_code() -> None:
    error = errors.make("HTTPStatusError", "user", "500")
    assert type(error) is errors.RuntimeUserError
    assert error.code == "HTTPStatusError"


def test_the_code_of_one_of_our_classes_gives_that_class() -> None:
    error = errors.make("OOMError", "user", "over 512 MiB")
    assert isinstance(error, errors.OOMError)
    assert str(error) == "over 512 MiB"
    lost = errors.make("WorkerLostError", "system", "gone")
    assert isinstance(lost, errors.WorkerLostError)
    assert lost.kind == "system"
    assert isinstance(errors.make("Odd", "unknown", "?"), errors.RuntimeUnknownError)


@pytest.mark.parametrize("name", ["ValueError", "OSError", "OOMError", "Unheard"])
def test_an_error_survives_pickling(name: str) -> None:
    error = errors.make(name, "user", "no good")
    error.traceback = "Traceback …"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, str(copy), copy.traceback) == (type(error), name, "no good", "Traceback …")


@pytest.mark.parametrize("code", sorted(errors.by_code()))
def test_every_class_can_cross_a_process_boundary(code: str) -> None:
    if code in ("BaseRuntimeError", "RuntimeUserError", "RuntimeSystemError", "_Coded"):
        return
    error = errors.make(code, "user", "told")
    assert isinstance(error, errors.by_code()[code])
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, str(copy)) == (type(error), code, "told")


def test_every_class_is_drawn_at_the_top_of_the_module_or_is_one_of_flytes_names() -> None:
    drawn = errors.__doc__ or ""
    assert all(
        name in drawn or issubclass(cls, errors.RuntimeUserError)
        for name, cls in errors.by_code().items()
        if name[0] != "_"
    )


def test_a_message_left_out_is_the_classs_own() -> None:
    assert str(errors.ActionAbortedError()) == "Raised when the action was aborted."


def test_a_timeout_is_a_timeout_and_an_invalid_input_a_value_error() -> None:
    assert issubclass(errors.DeadlineExceededError, TimeoutError)
    assert issubclass(errors.InvalidInputError, ValueError)

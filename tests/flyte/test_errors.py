"""Errors as users catch them, in the process where they arose and in the one they crossed to."""

from __future__ import annotations

import pickle

import pytest

from flyte import errors


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

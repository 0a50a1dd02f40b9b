"""Errors that crossed a process boundary, made whole again on this side."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from flyte.errors import BaseRuntimeError, TaskInterruptedError, make
from flyte.wire import ErrorInfo


def to_error(info: ErrorInfo) -> BaseRuntimeError:
    """The error that `info` tells of; for a user's exception also of that class, where this process has loaded it."""
    error = make(info.code, info.kind, info.message, original_class(info.type))
    error.traceback = info.traceback or None
    return error


def plain(error: BaseException) -> BaseException:
    """What ended the function, as something that any caller can catch and any loop can carry.

    Exceptions with which Python itself is steered are neither: raised anew in a parent they would steer that.
    """
    match error:
        case SystemExit():
            told = f"the task called sys.exit({_shown(error.code)}); raise an exception to fail"
        case asyncio.CancelledError():
            told = "the task was cancelled from inside"
        case KeyboardInterrupt() | GeneratorExit():
            told = f"the task raised {type(error).__name__}"
        case StopIteration() | StopAsyncIteration():  # as Python has it for coroutines
            return _raised_from(error, RuntimeError(f"the task raised {type(error).__name__}"))
        case _:
            return error
    return _raised_from(error, TaskInterruptedError(told))


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a stranger's code
        return f"<{type(value).__name__}>"


def _raised_from(cause: BaseException, error: BaseException) -> BaseException:
    error.__cause__ = cause
    return error.with_traceback(cause.__traceback__)


def original_class(type_name: str) -> type[BaseException] | None:
    """The exception class `module:qualname`, if this process has it. Nothing is imported for it.

    Code that catches the class has imported its module. A class of the script that runs here as `__main__` was
    named by the script's module name on the platform.
    """
    module_name, _, qualname = type_name.partition(":")
    if not qualname:
        return None
    thing: object = sys.modules.get(module_name) or _script(module_name)
    for part in qualname.split("."):
        thing = getattr(thing, part, None)
    return thing if isinstance(thing, type) and issubclass(thing, BaseException) else None


def _script(module_name: str) -> object:
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return main if file and Path(file).stem == module_name.rpartition(".")[2] else None

"""`flyte.trace`: steps inside an action that are remembered for its later attempts.

A step's id is a hash of what makes it the same step again: the function's name and code, its arguments, the group, and
how many equal steps came before in this attempt. What it gave is recorded as JSON before its caller gets it.
Of errors only `NonRecoverableError` is remembered: the others are what the next attempt is there to try again.

A generator is a step too: its items, and what it returned, are recorded when it has come to its end. It is driven by
hand, so that its code runs as the step's and its reader's, in between, does not; what is sent or thrown in reaches it.
The next attempt gets the items whatever it sends; what it throws in comes back at once.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import threading
import time
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from flyte import _values
from flyte._context import Caller, current_caller, current_group, tracing
from flyte._declare.interface import interface_of
from flyte._declare.options import FunctionBodyPolicy, VersionParameters
from flyte.errors import InvalidInputError, NonRecoverableError, RestrictedTypeError

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()
_counts: WeakKeyDictionary[Caller, Counter[str]] = WeakKeyDictionary()


def trace(func: Callable[P, R]) -> Callable[P, R]:
    """Remember what the function gave: an action that is tried again gets it from there, without running it.

    Takes sync and async functions and generators. Outside an action it changes nothing. A traced function must not
    call tasks (TraceDoesNotAllowNestedTasksError). Inside an action all that a generator gives is kept in memory until
    its end, when it is recorded; one that is left early runs again.
    """
    name = getattr(func, "__qualname__", repr(func))
    traced = _Traced(func, name)
    if inspect.isasyncgenfunction(func):
        wrapper: Any = traced.async_generator()
    elif inspect.isgeneratorfunction(func):
        wrapper = traced.generator()
    elif inspect.iscoroutinefunction(func):
        wrapper = traced.coroutine()
    else:
        wrapper = traced.function()
    return cast("Callable[P, R]", functools.wraps(func)(wrapper))


@dataclass(frozen=True, slots=True)
class _Step:
    """One call of a traced function inside an action."""

    caller: Caller
    id: str
    name: str
    started: float


@dataclass(frozen=True)
class _Traced:
    func: Callable[..., Any]
    name: str

    @functools.cached_property
    def returns(self) -> Any:
        """The annotation of one result."""
        return interface_of(self.func, self.name).returns

    @functools.cached_property
    def code(self) -> str:
        return FunctionBodyPolicy().get_version("", VersionParameters(self.func))

    def step(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Step | None:
        """The step that this call is, or None outside an action."""
        caller = current_caller()
        if caller is None:
            return None
        text = "\0".join([self.name, self.code, current_group() or "", *map(_argument, args)])
        text += "\0".join(f"{key}={_argument(kwargs[key])}" for key in sorted(kwargs))
        with _lock:
            counts = _counts.setdefault(caller, Counter())
            sequence, counts[text] = counts[text], counts[text] + 1
        digest = hashlib.sha256(f"{text}\0{sequence}".encode()).hexdigest()[:32]
        return _Step(caller, digest, self.name, time.time())

    def dumped(self, value: Any) -> Any:
        return _values.to_json(value, self.returns, f"the result of {self.name}")

    def loaded(self, data: Any) -> Any:
        return _values.from_json(data, self.returns, f"the result of {self.name}")

    def coroutine(self) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            step = self.step(args, kwargs)
            if step is None:
                return await self.func(*args, **kwargs)
            found, data = await step.caller.trace_lookup(step.id, step.name)
            if found:
                return self.loaded(data)
            try:
                with tracing(step.id):
                    value = await self.func(*args, **kwargs)
            except NonRecoverableError as error:
                await step.caller.trace_record(step.id, step.name, None, error, step.started)
                raise
            await step.caller.trace_record(step.id, step.name, self.dumped(value), None, step.started)
            return value

        return call

    def function(self) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            step = self.step(args, kwargs)
            if step is None:
                return self.func(*args, **kwargs)
            found, data = step.caller.trace_lookup_blocking(step.id, step.name)
            if found:
                return self.loaded(data)
            try:
                with tracing(step.id):
                    value = self.func(*args, **kwargs)
            except NonRecoverableError as error:
                step.caller.trace_record_blocking(step.id, step.name, None, error, step.started)
                raise
            step.caller.trace_record_blocking(step.id, step.name, self.dumped(value), None, step.started)
            return value

        return call

    def generator(self) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            step = self.step(args, kwargs)
            if step is None:
                return (yield from self.func(*args, **kwargs))
            found, data = step.caller.trace_lookup_blocking(step.id, step.name)
            if found:
                return (yield from _repeated(data))
            given: list[Any] = []
            try:
                returned = yield from _driven(self.func(*args, **kwargs), step, given)
            except NonRecoverableError as error:
                step.caller.trace_record_blocking(step.id, step.name, None, error, step.started)
                raise
            step.caller.trace_record_blocking(step.id, step.name, _kept(given, returned), None, step.started)
            return returned

        return call

    def async_generator(self) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            step = self.step(args, kwargs)
            found, data = await step.caller.trace_lookup(step.id, step.name) if step else (False, [])
            if found:
                for item in _repeated(data):
                    yield item
                return
            given: list[Any] = []
            inner = self.func(*args, **kwargs)
            go_on = inner.__anext__
            try:
                while True:
                    with _inside(step):
                        value = await go_on()
                    if step is not None:
                        given.append(value)
                    try:
                        go_on = functools.partial(inner.asend, (yield value))
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - the reader's, for the function
                        go_on = functools.partial(inner.athrow, thrown)
            except StopAsyncIteration:
                pass
            except NonRecoverableError as error:
                if step is not None:
                    await step.caller.trace_record(step.id, step.name, None, error, step.started)
                raise
            finally:
                with _inside(step):
                    await inner.aclose()
            if step is not None:
                await step.caller.trace_record(step.id, step.name, _kept(given, None), None, step.started)

        return call


def _inside(step: _Step | None) -> AbstractContextManager[None]:
    return nullcontext() if step is None else tracing(step.id)


def _driven(inner: Generator[Any, Any, Any], step: _Step, given: list[Any]) -> Generator[Any, Any, Any]:
    """What `yield from inner` does, with `inner` running as the step; its items are added to `given`."""
    go_on: Callable[[], Any] = inner.__next__
    while True:
        try:
            with tracing(step.id):
                value = go_on()
        except StopIteration as stop:
            return stop.value
        given.append(value)
        try:
            go_on = functools.partial(inner.send, (yield value))
        except GeneratorExit:
            with tracing(step.id):
                inner.close()
            raise
        except BaseException as thrown:  # noqa: BLE001 - the reader's, for the function
            go_on = functools.partial(inner.throw, thrown)


def _kept(given: list[Any], returned: Any) -> Any:
    """A generator's items, and what it returned, as JSON: a list where that is None."""
    items = [_values.to_json(value) for value in given]
    return items if returned is None else {"items": items, "returned": _values.to_json(returned)}


def _repeated(data: Any) -> Generator[Any, Any, Any]:
    """The generator that `_kept` made `data` of, once more."""
    items, returned = (data, None) if isinstance(data, list) else (data["items"], data["returned"])
    for item in items:
        yield _values.from_json(item)
    return _values.from_json(returned)


def _argument(value: Any) -> str:
    """Text that is the same for equal arguments; what has no JSON form counts by its class."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _values.encode(value).decode()
    except (InvalidInputError, RestrictedTypeError):
        return f"{type(value).__module__}.{type(value).__qualname__}"

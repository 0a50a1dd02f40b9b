"""One implementation, two ways to call it: on any thread, in any loop, after a fork."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flyte import _sync
from flyte._loop_thread import LoopThread
from flyte._sync import (
    BlockingCallWarning,
    CannotBlock,
    Stream,
    streamable,
    syncable,
    syncable_classmethod,
    syncable_when,
    to_thread,
)


@syncable
async def double(x: int) -> int:
    """Twice x."""
    await asyncio.sleep(0)
    return 2 * x


@syncable
async def where() -> tuple[str, int]:
    return threading.current_thread().name, threading.get_ident()


@streamable
async def count(n: int, closed: list[int] | None = None) -> AsyncIterator[int]:
    try:
        for number in range(n):
            await asyncio.sleep(0)
            yield number
    finally:
        if closed is not None:
            closed.append(n)


class Thing:
    def __init__(self, x: int) -> None:
        self.x = x

    @syncable
    async def plus(self, y: int) -> int:
        return self.x + y

    @syncable_classmethod
    @classmethod
    async def make(cls, x: int) -> Thing:
        return cls(x)

    @streamable
    async def up_to(self, n: int) -> AsyncIterator[int]:
        for number in range(self.x, n):
            yield number


class Sub(Thing):
    pass


def _at_hand(self: Shelf, name: str) -> bool:
    return name in self.books


class Shelf:
    """Books that are at hand, and others that have to be fetched."""

    def __init__(self, *books: str) -> None:
        self.books = set(books)

    @syncable_when(_at_hand)
    async def take(self, name: str) -> tuple[str, int]:
        if name not in self.books:
            await asyncio.sleep(0)
        return name, threading.get_ident()


@pytest.fixture(autouse=True)
def _no_blocker() -> Iterator[None]:
    before = _sync._blocker
    _sync.set_blocker(None)
    _sync._warned.clear()
    yield
    _sync.set_blocker(before)


def test_the_blocking_form_waits_for_the_result() -> None:
    assert double(4) == 8
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice x."


async def test_aio_is_the_coroutine_itself_on_the_callers_loop() -> None:
    assert await double.aio(4) == 8
    assert await where.aio() == (threading.current_thread().name, threading.get_ident())


def test_methods_class_methods_and_subclasses_have_both_forms() -> None:
    assert Thing(1).plus(2) == 3
    assert asyncio.run(Thing(1).plus.aio(2)) == 3
    assert Thing.make(5).x == 5
    assert type(Sub.make(5)) is Sub
    assert type(asyncio.run(Sub.make.aio(5))) is Sub


def test_what_is_at_hand_is_given_on_the_callers_thread_and_the_rest_is_fetched_on_the_portals() -> None:
    shelf, here = Shelf("near"), threading.get_ident()
    assert shelf.take("near") == ("near", here)
    name, thread = shelf.take("far")
    assert name == "far"
    assert thread != here
    assert asyncio.run(shelf.take.aio("far")) == ("far", here)


def test_what_was_said_to_be_at_hand_and_is_not_is_an_error_and_no_silent_wait() -> None:
    @syncable_when(lambda name: True)
    async def fetch(name: str) -> str:
        await asyncio.sleep(0)
        return name

    with pytest.raises(RuntimeError, match="waits"):
        fetch("far")


def test_cancelling_what_was_submitted_cancels_it_there() -> None:
    portal = LoopThread("cancelled")
    begun, ended = threading.Event(), threading.Event()

    async def sleep() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    future = portal.submit(sleep())
    assert begun.wait(5)
    assert future.cancel()
    assert ended.wait(5)
    assert portal.call(asyncio.sleep(0, "still there")) == "still there"


def test_errors_come_out_as_they_were_raised() -> None:
    @syncable
    async def fail() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError, match="k"):
        fail()


def test_the_portal_is_one_daemon_thread_named_flyte() -> None:
    name, ident = where()
    assert name == "flyte"
    assert where() == (name, ident)
    assert next(t for t in threading.enumerate() if t.name == "flyte").daemon


def test_the_callers_context_is_seen_and_left_alone() -> None:
    variable = contextvars.ContextVar("variable", default=0)

    @syncable
    async def look() -> int:
        seen = variable.get()
        variable.set(99)
        return seen

    variable.set(7)
    assert look() == 7
    assert variable.get() == 7


def test_many_threads_may_wait_at_once() -> None:
    """Each until all of them do."""
    waiting: list[int] = []
    all_wait = asyncio.Event()

    @syncable
    async def meet(n: int) -> int:
        waiting.append(n)
        if len(waiting) == 20:
            all_wait.set()
        await asyncio.wait_for(all_wait.wait(), 10)
        return n

    with ThreadPoolExecutor(20) as threads:
        assert list(threads.map(meet, range(20), timeout=20)) == list(range(20))
    assert sorted(waiting) == list(range(20))


def test_a_blocking_call_on_the_portals_own_thread_works() -> None:
    @syncable
    async def outer() -> tuple[int, str]:
        return double(3), where()[0]

    result, name = outer()
    assert result == 6
    assert name.startswith("flyte-nested")


def test_a_forked_child_starts_a_portal_of_its_own() -> None:
    assert double(1) == 2
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.write(write, str(double(21)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert answer.read() == "42"
    os.waitpid(child, 0)
    assert double(1) == 2


# ---------------------------------------------------------------------------------- where a loop runs on the thread


async def test_a_call_that_holds_up_a_loop_works_and_says_where_it_is() -> None:
    with pytest.warns(BlockingCallWarning) as caught:
        assert double(5) == 10
    (warning,) = caught
    line = f"{warning.filename}:{warning.lineno}"
    assert warning.filename == __file__
    assert str(warning.message).startswith(line)
    assert "await double.aio(...)" in str(warning.message)


async def test_the_rewrite_shows_the_callers_own_words() -> None:
    thing = Thing(1)
    with pytest.warns(BlockingCallWarning, match=r"write `await thing\.plus\.aio\(\.\.\.\)`"):
        thing.plus(2)


async def test_it_says_so_once_for_each_line() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            double(5)
        double(6)
    assert len(caught) == 2


async def test_with_warnings_as_errors_no_coroutine_is_left_behind() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BlockingCallWarning):
            double(5)


async def test_a_blocker_lets_the_calling_task_wait() -> None:
    seen: list[Any] = []

    def blocker(awaitable: Any) -> Any:
        seen.append(awaitable)
        awaitable.close()
        return "blocked"

    _sync.set_blocker(blocker)
    assert str(double(5)) == "blocked"
    assert len(seen) == 1


async def test_where_the_blocker_cannot_wait_the_portal_does() -> None:
    def blocker(awaitable: Any) -> Any:
        raise CannotBlock

    _sync.set_blocker(blocker)
    with pytest.warns(BlockingCallWarning):
        assert double(5) == 10


# ---------------------------------------------------------------------------------------------------------- streams


def test_a_stream_is_read_with_for() -> None:
    assert list(count(3)) == [0, 1, 2]
    assert list(Thing(2).up_to(5)) == [2, 3, 4]


async def test_a_stream_is_read_with_async_for_in_both_forms() -> None:
    assert [n async for n in count(3)] == [0, 1, 2]
    assert [n async for n in count.aio(3)] == [0, 1, 2]
    assert [n async for n in Thing(1).up_to.aio(3)] == [1, 2]


def test_leaving_a_stream_early_runs_its_clean_up() -> None:
    closed: list[int] = []
    for number in count(10, closed):
        if number == 2:
            break
    assert closed == [10]


def test_a_stream_is_an_iterator_that_goes_on_where_it_stopped() -> None:
    stream = count(4)
    assert isinstance(stream, Iterator)
    assert iter(stream) is stream
    assert next(stream) == 0
    assert next(stream, None) == 1
    assert list(stream) == [2, 3]
    assert next(stream, None) is None
    assert list(stream) == []


async def test_a_stream_is_an_async_iterator_that_goes_on_where_it_stopped() -> None:
    stream = count(4)
    assert isinstance(stream, AsyncIterator)
    assert aiter(stream) is stream
    assert await anext(stream) == 0
    assert await anext(stream, None) == 1
    assert [n async for n in stream] == [2, 3]
    assert await anext(stream, None) is None


def test_nothing_begins_before_the_first_item_is_asked_for() -> None:
    begun: list[int] = []

    def source() -> AsyncIterator[int]:
        begun.append(1)
        return count.aio(1)

    stream = Stream(source)
    assert iter(stream) is stream
    assert begun == []
    assert list(stream) == [0]
    assert begun == [1]


def test_a_stream_that_is_closed_or_held_by_nobody_any_more_cleans_up_and_is_over() -> None:
    closed: list[int] = []
    stream = count(10, closed)
    assert next(stream) == 0
    assert closed == []
    stream.close()
    assert closed == [10]
    assert list(stream) == []
    stream = count(20, closed)
    assert next(stream) == 0
    del stream
    assert closed == [10, 20]


async def test_a_stream_is_closed_in_async_code() -> None:
    closed: list[int] = []
    async with contextlib.aclosing(count(10, closed)) as stream:
        assert await anext(stream) == 0
    assert closed == [10]
    assert [n async for n in stream] == []


def test_a_program_ends_that_still_holds_a_stream_and_what_it_calls_too_late_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent("""
            import asyncio
            from flyte._sync import streamable, syncable

            @streamable
            async def naturals():
                n = 0
                while True:
                    yield n
                    n += 1

            @syncable
            async def double(x):
                return 2 * x

            class Last:
                def __init__(self):
                    print(double(2))

                def __del__(self, double=double, print=print):
                    try:
                        double(3)
                    except RuntimeError as error:
                        print(error, flush=True)

            last = Last()
            numbers = naturals()
            print(next(numbers), next(numbers), flush=True)
            loop = iter(naturals())
            print(next(loop), flush=True)
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env={"PYTHONPATH": str(Path(_sync.__file__).parents[1]), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    late = "double was called while the interpreter ends; call it before"
    assert done.stdout.splitlines() == ["4", "0 1", "0", late]
    assert done.returncode == 0


def test_an_error_in_a_stream_reaches_its_reader() -> None:
    @streamable
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise OSError("gone")

    stream = iter(broken())
    assert next(stream) == 1
    with pytest.raises(OSError, match="gone"):
        next(stream)


def test_a_loop_thread_prepares_its_loop_and_is_awaited_from_any_loop() -> None:
    prepared: list[asyncio.AbstractEventLoop] = []
    thread = LoopThread("prepared", prepared.append)

    async def here() -> str:
        return threading.current_thread().name

    async def main() -> str:
        return await thread.aio(here())

    assert not prepared
    assert asyncio.run(main()) == "prepared"
    assert thread.call(here()) == "prepared"
    assert len(prepared) == 1


def test_sys_exit_in_a_coroutine_reaches_who_called_it_and_the_loop_goes_on() -> None:
    portal, goes_on = LoopThread("left"), asyncio.Event()

    async def leaves() -> None:
        sys.exit(3)

    async def another() -> str:
        await goes_on.wait()
        return "done"

    async def go_on() -> None:
        goes_on.set()

    waiting = portal.submit(another())
    with pytest.raises(SystemExit, match="3"):
        portal.call(leaves())
    portal.submit(go_on())
    assert waiting.result(10) == "done"


async def test_a_stop_iteration_in_a_thread_is_raised_and_does_not_wait_for_ever() -> None:
    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await to_thread(next, iter([]))
        assert await to_thread(next, iter([1])) == 1


async def test_cancelling_who_awaits_a_loop_thread_cancels_the_work() -> None:
    thread = LoopThread("cancelled")
    started, ended = threading.Event(), threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    waiting = asyncio.create_task(thread.aio(work()))
    assert await asyncio.to_thread(started.wait, 10)
    waiting.cancel()
    assert await asyncio.to_thread(ended.wait, 10)
    with pytest.raises(asyncio.CancelledError):
        await waiting

"""A blocking call inside a task waits as `await` would: the loop goes on, and asyncio sees no difference."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
import traceback
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

pytest.importorskip("greenlet")
import uvloop
from fastapi import FastAPI
from greenlet import getcurrent, greenlet  # type: ignore[import-untyped, unused-ignore]

from flyte import _sync
from flyte._sync import BlockingCallWarning, streamable, syncable
from flyte.runtime import greenlets

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


@pytest.fixture(autouse=True)
def _blocker() -> Iterator[None]:
    """What `install` sets is the whole process's; other tests' loops are driven already, and rely on it."""
    before = _sync._blocker
    yield
    _sync.set_blocker(before)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    """Runs a coroutine on a driven loop of its own."""
    _sync._warned.clear()
    with asyncio.Runner(loop_factory=request.param) as runner:
        greenlets.install(runner.get_loop())
        yield runner.run


@syncable
async def nap(seconds: float = 0.01, result: Any = None) -> Any:
    await asyncio.sleep(seconds)
    return result


@syncable
async def happened(event: asyncio.Event, result: Any = None) -> Any:
    """Waits for something that somebody else does on the same loop."""
    await asyncio.wait_for(event.wait(), 10)
    return result


@syncable
async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def test_a_blocking_call_lets_other_tasks_run(run: Run[Any]) -> None:
    async def tick(ten: asyncio.Event) -> None:
        for _ in range(10):
            await asyncio.sleep(0.001)
        ten.set()

    async def main() -> None:
        ten = asyncio.Event()
        ticking = asyncio.create_task(tick(ten))
        assert happened(ten, "done") == "done"
        await ticking

    run(main())


def test_many_handlers_wait_at_once(run: Run[Any]) -> None:
    """Twice, each until all of them do."""

    async def main() -> list[int]:
        waiting = [0, 0]
        all_wait = asyncio.Event(), asyncio.Event()

        def meet(time: int, result: int) -> int:
            waiting[time] += 1
            if waiting[time] == 50:
                all_wait[time].set()
            return int(happened(all_wait[time], result))

        async def handler(n: int) -> int:
            first = meet(0, n)
            await asyncio.sleep(0)
            return first + meet(1, 1)

        return list(await asyncio.gather(*(handler(n) for n in range(50))))

    assert run(main()) == [n + 1 for n in range(50)]


def test_the_awaitable_runs_in_the_calling_task(run: Run[Any]) -> None:
    @syncable
    async def who() -> Any:
        return asyncio.current_task(), asyncio.get_running_loop(), threading.get_ident()

    async def main() -> None:
        assert who() == (asyncio.current_task(), asyncio.get_running_loop(), threading.get_ident())

    run(main())


def test_errors_are_raised_at_the_call(run: Run[Any]) -> None:
    async def main() -> str:
        try:
            fail(ValueError("no"))
        except ValueError as error:
            return str(error)
        return ""

    assert run(main()) == "no"


def test_an_error_that_nobody_catches_ends_the_task_with_the_users_traceback(run: Run[Any]) -> None:
    async def main() -> None:
        fail(ValueError("no"))

    with pytest.raises(ValueError, match="no") as raised:
        run(main())
    files = [frame.filename for frame in traceback.extract_tb(raised.value.__traceback__)]
    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert names.index("main") < names.index("fail")
    assert greenlets.__file__ not in files[names.index("main") - 0 : names.index("main")]


def test_an_error_of_a_thread_keeps_the_frames_of_the_thread(run: Run[Any]) -> None:
    def breaks() -> None:
        raise ValueError("no")

    async def handler() -> list[str]:
        with pytest.raises(ValueError, match="no") as raised:
            await asyncio.to_thread(breaks)
        return [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]

    names = run(handler())
    assert names[0] == "handler"
    assert names[-2:] == ["run", "breaks"]
    assert not {"_wait", "_leave"} & set(names), "nothing of ours is between"


def test_cancelling_the_task_cancels_the_wait(run: Run[Any]) -> None:
    ended: list[str] = []

    @syncable
    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("awaitable")
            raise

    async def handler() -> None:
        try:
            forever()
        except asyncio.CancelledError:
            ended.append("handler")
            raise

    async def main() -> bool:
        task = asyncio.create_task(handler())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run(main())
    assert ended == ["awaitable", "handler"]


def test_a_handler_may_go_on_after_a_cancellation(run: Run[Any]) -> None:
    async def handler() -> str:
        try:
            nap(60)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)
        return nap(0.01, "after")  # type: ignore[no-any-return]

    async def main() -> str:
        task = asyncio.create_task(handler())
        await asyncio.sleep(0.01)
        task.cancel()
        return await task

    assert run(main()) == "after"


def test_timeouts_hold(run: Run[Any]) -> None:
    async def main() -> str:
        try:
            async with asyncio.timeout(0.05):  # noqa: ASYNC100 - the blocking call is the point
                nap(60)
        except TimeoutError:
            pass
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handler(), 0.05)
        return nap(0.01, "after")  # type: ignore[no-any-return]

    async def handler() -> None:
        nap(60)

    assert run(main()) == "after"


def test_a_task_group_collects_the_errors_of_its_handlers(run: Run[Any]) -> None:
    cancelled: list[int] = []

    async def handler(n: int) -> None:
        try:
            if n == 1:
                fail(ValueError("one"))
            nap(60)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(handler(n))

    with pytest.raises(ExceptionGroup) as raised:
        run(main())
    assert [str(error) for error in raised.value.exceptions] == ["one"]
    assert sorted(cancelled) == [0, 2]


def test_an_exception_group_passes_through_a_blocking_call(run: Run[Any]) -> None:
    async def main() -> None:
        fail(ExceptionGroup("both", [ValueError(), KeyError()]))

    with pytest.raises(ExceptionGroup) as raised:
        run(main())
    assert len(raised.value.exceptions) == 2


def test_context_variables_are_the_tasks_own(run: Run[Any]) -> None:
    @syncable
    async def look() -> str:
        seen = variable.get()
        await asyncio.sleep(0)
        variable.set(f"{seen}!")
        return seen

    async def handler(name: str) -> tuple[str, str, str]:
        variable.set(name)
        await asyncio.sleep(0)
        first = look()
        await asyncio.sleep(0)
        return first, variable.get(), look()

    async def main() -> None:
        results = await asyncio.gather(*(handler(name) for name in "abc"))
        assert results == [(name, f"{name}!", f"{name}!") for name in "abc"]
        assert variable.get() == "none"

    run(main())


def test_context_variables_hold_inside_context_run(run: Run[Any]) -> None:
    @syncable
    async def look() -> str:
        await asyncio.sleep(0)
        return variable.get()

    def inside() -> str:
        variable.set("inside")
        return look() + variable.get()

    async def main() -> str:
        variable.set("outside")
        both = contextvars.copy_context().run(inside)
        return both + look()

    assert run(main()) == "insideinsideoutside"


def test_a_context_given_to_a_task_is_used(run: Run[Any]) -> None:
    async def main() -> str | None:
        context = contextvars.copy_context()

        async def change() -> None:
            nap(0.001)
            variable.set("changed")

        await asyncio.create_task(change(), context=context)
        return context.get(variable)

    assert run(main()) == "changed"


def test_a_blocking_call_deep_inside_plain_functions_waits(run: Run[Any]) -> None:
    def down(depth: int) -> Any:
        return nap(0.01, "bottom") if depth == 0 else down(depth - 1)

    async def main() -> Any:
        return down(200)

    assert run(main()) == "bottom"


def test_a_blocking_call_may_be_inside_a_blocking_call(run: Run[Any]) -> None:
    @syncable
    async def outer() -> Any:
        return nap(0.01, "inner")

    async def main() -> Any:
        return outer()

    assert run(main()) == "inner"


def test_a_stream_is_read_with_plain_for_inside_a_task(run: Run[Any]) -> None:
    @streamable
    async def count() -> Any:
        for n in range(3):
            await asyncio.sleep(0.001)
            yield n

    async def main() -> list[int]:
        return list(count())

    assert run(main()) == [0, 1, 2]


def test_a_call_in_a_loop_callback_falls_back_with_a_warning(run: Run[Any]) -> None:
    async def main() -> Any:
        done = asyncio.get_running_loop().create_future()

        def callback() -> None:
            with pytest.warns(BlockingCallWarning):
                done.set_result(nap(0.01, "fell back"))

        asyncio.get_running_loop().call_soon(callback)
        return await done

    assert run(main()) == "fell back"


def test_a_call_in_somebody_elses_greenlet_falls_back_with_a_warning(run: Run[Any]) -> None:
    async def main() -> Any:
        def inside() -> Any:
            with pytest.warns(BlockingCallWarning):
                return nap(0.01, "fell back")

        return greenlet(inside).switch()

    assert run(main()) == "fell back"


def test_a_task_stays_in_one_greenlet_for_its_whole_life(run: Run[Any]) -> None:
    async def handler() -> int:
        seen = {id(getcurrent())}
        for _ in range(5):
            await asyncio.sleep(0.001)
            nap(0.001)
            seen.add(id(getcurrent()))
        return len(seen)

    async def main() -> list[int]:
        return await asyncio.gather(*(handler() for _ in range(10)))

    assert run(main()) == [1] * 10


def test_code_that_awaits_through_greenlets_of_its_own_works(run: Run[Any]) -> None:
    """What SQLAlchemy's asyncio does: plain code in a greenlet whose parent awaits for it, step after step."""

    def await_only(awaitable: Any) -> Any:
        return getcurrent().parent.switch(awaitable)

    async def spawn(func: Callable[[], Any]) -> Any:
        inner = greenlet(func)
        inner.parent = getcurrent()
        result = inner.switch()
        while not inner.dead:
            result = inner.switch(await result)
        return result

    def plain() -> list[Any]:
        return [await_only(asyncio.sleep(0.001, n)) for n in range(5)]

    async def main() -> list[Any]:
        return await asyncio.gather(*(spawn(plain) for _ in range(20)))

    assert run(main()) == [list(range(5))] * 20


def test_finished_tasks_hand_their_greenlet_on_and_keep_nothing_alive(run: Run[Any]) -> None:
    class Big:
        pass

    async def handler() -> Big:
        big = Big()
        variable.set("x")
        nap(0.001)
        return big

    async def main() -> weakref.ref[Big]:
        return weakref.ref(await asyncio.create_task(handler()))

    found = run(main())
    gc.collect()
    assert found() is None


def test_closing_a_driven_coroutine_runs_its_clean_up() -> None:
    cleaned: list[str] = []

    async def handler() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            cleaned.append("yes")

    driven = greenlets.Driven(handler(), contextvars.copy_context())
    assert driven.send(None) is None
    driven.close()
    assert cleaned == ["yes"]
    driven.close()


def test_a_driven_coroutine_that_is_dropped_runs_its_clean_up() -> None:
    cleaned: list[str] = []

    async def handler() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            cleaned.append("yes")

    driven = greenlets.Driven(handler(), contextvars.copy_context())
    driven.send(None)
    del driven
    assert cleaned == ["yes"]


def test_a_coroutine_that_will_not_end_is_told_so() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(0)
        except GeneratorExit:
            await asyncio.sleep(0)

    driven = greenlets.Driven(stubborn(), contextvars.copy_context())
    driven.send(None)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        driven.close()


def test_asyncio_and_others_see_the_users_coroutine(run: Run[Any]) -> None:
    async def handler() -> None:
        nap(0.05)
        await asyncio.sleep(0.05)

    async def main() -> None:
        task = asyncio.create_task(handler(), name="mine")
        await asyncio.sleep(0.07)
        coroutine: Any = task.get_coro()
        assert asyncio.iscoroutine(coroutine)
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
        assert str(getattr(coroutine, "__qualname__", "")).endswith("handler")
        assert "handler" in repr(task)
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["handler"]
        assert task.get_name() == "mine"
        await task

    run(main())


def test_anyio_cancels_and_times_out_driven_tasks(run: Run[Any]) -> None:
    anyio = pytest.importorskip("anyio")
    ended: list[str] = []

    async def handler(name: str) -> None:
        try:
            nap(60)
        finally:
            ended.append(name)

    async def main() -> Any:
        with anyio.move_on_after(0.05) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(handler, "one")
                group.start_soon(handler, "two")
        return scope.cancelled_caught, await anyio.to_thread.run_sync(lambda: nap(0.01, "thread"))

    assert run(main()) == (True, "thread")
    assert sorted(ended) == ["one", "two"]


def test_a_task_factory_that_was_there_is_kept() -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> Any:
        return nap(0.01, "done")

    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(factory)
        greenlets.install(runner.get_loop())
        greenlets.install(runner.get_loop())
        assert runner.run(main()) == "done"
    assert "main" in made


if hasattr(asyncio, "eager_task_factory"):  # they came with Python 3.12

    def test_eager_tasks_wait_too() -> None:
        waiting = [0]
        most = [0]

        async def handler(n: int) -> Any:
            waiting[0] += 1
            most[0] = max(most[0], waiting[0])
            answer = nap(0.05, n)
            waiting[0] -= 1
            return answer

        async def main() -> Any:
            return await asyncio.gather(*(asyncio.create_task(handler(n)) for n in range(10)))

        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
            greenlets.install(loop)
            assert runner.run(main()) == list(range(10))
        assert most == [10], "the ten wait at the same time, not one after the other"


def test_a_server_answers_others_while_handlers_wait(run: Run[Any]) -> None:
    """Twenty handlers of a FastAPI app sit in a blocking call; the same loop answers everybody else."""
    httpx = pytest.importorskip("httpx")
    app = FastAPI()
    waiting: list[object] = []
    all_wait, served = asyncio.Event(), asyncio.Event()

    @app.get("/wait")
    async def wait() -> str:
        waiting.append(1)
        if len(waiting) == 20:
            all_wait.set()
        happened(served)
        return "waited"

    @app.get("/quick")
    async def quick() -> str:
        return "quick"

    async def main() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            asked = [asyncio.create_task(client.get("/wait")) for _ in range(20)]
            await asyncio.wait_for(all_wait.wait(), 10)
            for _ in range(10):
                assert (await client.get("/quick")).json() == "quick"
            served.set()
            answers = await asyncio.gather(*asked)
            assert [answer.json() for answer in answers] == ["waited"] * 20

    run(main())

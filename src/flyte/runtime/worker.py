"""A worker process: take an action, run its function, tell how it ended; once, or again and again.

The fork server has imported the user's code before the fork, so `serve` has little left to do: connect, say that it is
ready, wait. A sync task runs on the main thread, an async one on an event loop there. SIGTERM cancels an async task and
raises SystemExit in a sync one, so that `finally` blocks run before the grace period ends. What it cuts off is not
told: the control plane has given the action up, or takes it for lost with its worker and has it tried again.

Between two actions the main thread reads the link itself (see `link`); a small function costs no switch of threads.

A process that a task forks has no part in any of this (see `forks`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import signal
import sys
import threading
import traceback
from collections import deque
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flyte import wire
from flyte._context import entered, set_process_action
from flyte._failure import plain
from flyte._values.text import from_bytes
from flyte.errors import ActionAbortedError, RuntimeSystemError
from flyte.runtime import in_flight, loader, output, unit_process
from flyte.runtime.action import Answers, Job, restore_environment, set_environment
from flyte.runtime.forks import Forks
from flyte.runtime.link import Link
from flyte.runtime.values import unpack_value

try:
    from flyte.runtime import greenlets
except ImportError:  # the user's environment has no greenlet: blocking calls warn, and hold up the loop
    greenlets = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flyte._declare.task import TaskTemplate

T = TypeVar("T")

ABORTED = 143
"""Exit code of a worker that was told to stop (128 + SIGTERM): what it had is lost, and was not ended by itself."""


class Worker:
    def __init__(self, link: str, reuse: bool, concurrency: int) -> None:
        self._reuse = reuse
        self._concurrency = concurrency
        self._jobs: dict[wire.AttemptRef, Job] = {}
        """By attempt: the next one may come to a process in which the last one is still being cancelled."""
        """What was taken and is not acknowledged as finished."""
        self._tasks: dict[wire.AttemptRef, asyncio.Task[None]] = {}
        self._unwanted: set[wire.AttemptRef] = set()
        """Those of them that the control plane has cancelled."""
        self._inbox: deque[wire.Assign | None] = deque()
        self._news = threading.Event()
        """Set by the link's thread when the main thread may have something to do."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = False
        self._used = False
        """Code of the user's has run here, which may have left something to do at the end."""
        self._aborting = False
        self._spent = False
        self._root = loader.code_root()
        self._link = Link(link, self._hello, self.receive, output.flush_pending)
        self._answers = Answers(self._link)
        self._forks = Forks()

    # ------------------------------------------------------------------ the link's side

    def _in_flight(self) -> list[wire.InFlight]:
        return [wire.InFlight(run=key.run, action=key.action, attempt=key.attempt) for key in list(self._jobs)]

    def _hello(self) -> wire.Hello:
        return wire.Hello(
            kind="worker",
            name=os.environ["FLYTE_UNIT"],
            token=os.environ["FLYTE_LINK_TOKEN"],
            pid=os.getpid(),
            pool=os.environ.get("FLYTE_POOL", ""),
            reuse=self._reuse,
            concurrency=self._concurrency,
            held=self._in_flight(),
            place=in_flight.slot_of(os.environ.get(in_flight.VARIABLE, "")),
            spent=self._spent,
        )

    def receive(self, frames: list[wire.AnyFrame]) -> bool:
        """On the reading thread: pass every frame to its waiter. True if an order is among them."""
        results: list[wire.CallResult | wire.TraceResult] = []
        ordered = False
        for frame in frames:
            match frame:
                case wire.CallResult() | wire.TraceResult():
                    results.append(frame)
                case wire.Assign():
                    self._spent = not self._reuse
                    job = Job(frame, self._link, self._answers, self._root)
                    self._jobs[job.key] = job
                    ordered = self._order(frame)
                case wire.FinishedAck():
                    key = wire.AttemptRef.of(frame)
                    self._jobs.pop(key, None)
                    self._link.answered(key)
                case wire.AbortAction():
                    self._abort(frame)
                case wire.Retire():
                    ordered = self._order(None)
        if results:
            self._answers.receive(results)
        self._news.set()
        return ordered

    def _order(self, order: wire.Assign | None) -> bool:
        """Something to do, or (None) that there will be nothing more; whether the main thread takes it from here."""
        if self._loop is not None and self._concurrency > 1:
            self._loop.call_soon_threadsafe(self._take, order)
            return False
        self._inbox.append(order)
        return True

    def _abort(self, frame: wire.AbortAction) -> None:
        if self._loop is not None and self._concurrency > 1:
            self._loop.call_soon_threadsafe(self._cancel, wire.AttemptRef.of(frame))

    def _finish(self, frame: wire.Finished) -> None:
        self._link.send(frame, keep=wire.AttemptRef.of(frame))

    # ------------------------------------------------------------------ one at a time

    def run(self) -> None:
        """Serve until there is no more to do: after one action, or for a reused worker when it is told to retire."""
        signal.signal(signal.SIGTERM, self._terminate)
        self._forks.watch(self._link.abandon)
        runner = asyncio.Runner(loop_factory=new_loop)
        out = output.Output(os.environ[output.FILE])
        slot = in_flight.own_slot()
        self._link.start()
        runner.get_loop()  # while nobody waits for it
        while (assign := self._next()) is not None:
            job = self._jobs[wire.AttemptRef.of(assign)]
            finished = self._unready(job, slot, out)
            self._link.busy(True)
            if finished is None:
                finished = self.perform(job, runner)
                with contextlib.suppress(OSError):  # its log keeps the worker's name
                    out.name(assign.log, last=not self._reuse)
            self._finish(finished)
            self._running = False
            self._link.busy(False)
            if not self._reuse:
                unit_process.finally_call(functools.partial(out.name, assign.log, last=True))
                break
        runner.close()
        if not self._reuse:
            self._until(lambda: not self._jobs)  # the link ends the process when nobody answers any more

    def _next(self) -> wire.Assign | None:
        self._until(lambda: bool(self._inbox))
        return self._inbox.popleft()

    def _until(self, happened: Callable[[], bool]) -> None:
        """Return when it has; read the link meanwhile, or wait for the watcher's news."""
        while True:
            self._news.clear()
            if happened():
                return
            if not self._link.read_here(happened):
                self._news.wait()

    def _unready(
        self, job: Job, slot: in_flight.InFlightSlot, out: output.Output | None = None
    ) -> wire.Finished | None:
        """Write down what is in flight, and turn the output; how the action ends where there is no room for that."""
        try:
            slot.write(self._in_flight())
            if out is not None:
                out.turn(job.assign.log)
        except OSError as error:
            message = f"the worker cannot write down what it has in flight: {error}"
            return job.failed(RuntimeSystemError("WorkerLostError", message))
        return None

    def perform(self, job: Job, runner: asyncio.Runner) -> wire.Finished:
        """Run the action's function on this thread; how it ended."""
        self._running = self._used = True
        before = set_environment(job.assign.env)
        os.environ.update(job.environment())  # the next action has its own
        context = job.context()
        try:
            with entered(context, job):
                set_process_action(context, job)
                outputs = self._call(job, runner)
                self._forks.see_who_it_is()
                if self._aborting:  # what the function made of it is not what it was asked for
                    sys.exit(ABORTED)
                return job.succeeded(outputs)
        except loader.BrokenImport as broken:
            if self._aborting:  # it was told to end while it imported
                sys.exit(ABORTED)
            return job.failed(broken)
        except BaseException as error:  # noqa: BLE001 - a stranger's code
            self._forks.see_who_it_is(error)
            if self._aborting:
                sys.exit(ABORTED)
            return job.failed(plain(error))
        finally:
            set_process_action(None, None)
            if self._reuse:
                restore_environment(before)

    def _call(self, job: Job, runner: asyncio.Runner) -> list[Any]:
        task = load(job.assign.entry)
        args, kwargs = task.interface.arguments(task.load_inputs(_inputs(job.assign)))
        if not task.is_async and not task.is_wrapped:
            return job.outputs_of(task, task.func(*args, **kwargs))
        self._loop = runner.get_loop()
        context = contextvars.copy_context()  # the loop's own is that of the first action in this process
        function = task.execute if task.is_wrapped else task.func
        self._main = self._loop.create_task(_await(function(*args, **kwargs)), context=context)
        return job.outputs_of(task, self._run(self._loop, self._main))

    _main: asyncio.Task[Any] | None = None
    """What SIGTERM cancels."""

    def _run(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
        """The task's result, whatever else runs on the loop.

        asyncio stops a loop for a SystemExit or KeyboardInterrupt of any task. The awaiting code gets it; it
        may belong to another action, or to none any more. So the loop goes on, as after every other exception.
        """
        while True:
            try:
                # not `Runner.run`: its guard against Ctrl-C, which nobody presses here, costs as much as all the rest
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt):
                if self._aborting:
                    raise
                if task.done():
                    return task.result()
                with contextlib.suppress(Exception):  # standard error may be whatever user code has put there
                    traceback.print_exc()

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._aborting = self._link.ending = True
        if not self._running:  # an order may be on its way
            if not self._used:
                os._exit(ABORTED)
            self._link.abandon()
            raise SystemExit(ABORTED)
        if self._main is not None and not self._main.done() and self._loop is not None:
            self._loop.call_soon_threadsafe(self._main.cancel)
        else:
            raise SystemExit(ABORTED)

    # ------------------------------------------------------------------ several at a time

    def run_many(self) -> None:
        """Serve several async actions at once on one event loop."""
        output.route()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            self._loop = runner.get_loop()
            self._run(self._loop, self._loop.create_task(self._serve_many()))
        if self._aborting:
            sys.exit(ABORTED)

    async def _serve_many(self) -> None:
        assert self._loop is not None
        self._retired = asyncio.Event()
        self._loop.add_signal_handler(signal.SIGTERM, self._leave)
        self._forks.watch(self._link.abandon)
        self._slot = in_flight.own_slot()
        self._link.start()
        self._link.watch()
        await self._retired.wait()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _leave(self) -> None:
        self._aborting = self._link.ending = True
        self._retired.set()

    def _take(self, assign: wire.Assign | None) -> None:
        if assign is None or self._aborting:
            self._retired.set()
            return
        job = self._jobs[wire.AttemptRef.of(assign)]
        if (finished := self._unready(job, self._slot)) is not None:
            self._finish(finished)
            return
        output.route(alone=not self._tasks)
        set_environment(assign.env)  # all that come to this process have the same
        task = asyncio.ensure_future(self._one_of_many(job))
        self._tasks[job.key] = task
        task.add_done_callback(functools.partial(self._over, job))

    def _cancel(self, key: wire.AttemptRef) -> None:
        if (task := self._tasks.get(key)) is not None:
            self._unwanted.add(key)
            task.cancel()

    async def _one_of_many(self, job: Job) -> None:
        stream = output.follow(job.assign.log)
        try:
            with entered(job.context(), job):
                outputs = await self._await(job)
                self._forks.see_who_it_is()
                finished = job.succeeded(outputs)
        except BaseException as error:  # noqa: BLE001 - a stranger's code
            self._forks.see_who_it_is(error)
            finished = self._failed(job, error)
        with contextlib.suppress(OSError):
            stream.close()
        if not self._aborting:  # what the function made of its cancellation is not what it was asked for
            self._finish(finished)

    def _failed(self, job: Job, error: BaseException) -> wire.Finished:
        if job.key in self._unwanted and isinstance(error, asyncio.CancelledError):
            error = ActionAbortedError("the action was aborted")
        return job.failed(plain(error))

    def _over(self, job: Job, task: asyncio.Task[None]) -> None:
        del self._tasks[job.key]
        if task.cancelled() and not self._aborting:  # before it had begun
            self._finish(self._failed(job, asyncio.CancelledError()))
        self._unwanted.discard(job.key)

    async def _await(self, job: Job) -> list[Any]:
        task = load(job.assign.entry)
        args, kwargs = task.interface.arguments(task.load_inputs(_inputs(job.assign)))
        if task.is_wrapped:
            return job.outputs_of(task, await task.execute(*args, **kwargs))
        result = task.func(*args, **kwargs)
        return job.outputs_of(task, await result if task.is_async else result)


async def _await(result: Awaitable[Any]) -> Any:
    return await result


@functools.cache
def load(entry: str) -> TaskTemplate[..., Any, Any]:
    """The task that `module:variable` names. Raises BrokenImport."""
    from flyte._declare.task import TaskTemplate

    thing = loader.resolve(entry)
    if not isinstance(thing, TaskTemplate):
        message = (
            f"{entry} is a {type(thing).__name__}, not a task; is it wrapped by a decorator above @env.task, or is "
            "another object of that name defined later?"
        )
        raise loader.BrokenImport(wire.ErrorInfo(code="ModuleLoadError", message=message))
    return cast("TaskTemplate[..., Any, Any]", thing)


def _inputs(assign: wire.Assign) -> dict[str, Any]:
    return cast("dict[str, Any]", from_bytes(unpack_value(assign.inputs), f"the input of {assign.task}"))


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop in which blocking calls of the SDK let other tasks go on."""
    loop = asyncio.new_event_loop()
    if greenlets is not None:
        greenlets.install(loop)
    return loop


def warm() -> None:
    """Called before the fork: what every action would otherwise do for the first time, done once."""
    from flyte._declare.environment import registry
    from flyte._declare.task import TaskEnvironment

    for environment in registry():
        if isinstance(environment, TaskEnvironment):
            for task in environment.tasks.values():
                _ = task.interface


def serve(reuse: bool, concurrency: int) -> None:
    """The life of a worker process; returns when it may end."""
    worker = Worker(os.environ["FLYTE_LINK"], reuse, concurrency)
    if concurrency > 1:
        worker.run_many()
    else:
        worker.run()

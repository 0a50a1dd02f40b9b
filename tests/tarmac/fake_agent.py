"""An agent and workers that live in the test's own event loop, and speak the real frames over the real socket.

The behaviour of the workers is a coroutine function of the test: it gets the action's `Act` and returns the output,
or raises; it can call children, wait, vanish. Like real ones, workers write down what they hold before they run it, end
with all they run, and read what was sent to them before the link was lost. Whatever else goes wrong in one, a failed
assertion of the test's behaviour for instance, stands in `FakeAgent.failures`, and `open_house` looks there.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from flyte import wire
from flyte.runtime.in_flight import InFlightSlot, slot_of

Behave = Callable[["Act"], Awaitable[Any]]


class Vanish(Exception):
    """The worker's process dies at this point."""


class Peer:
    """One end of a link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._unpacker = reader, writer, wire.Unpacker()
        self._ready: list[wire.AnyFrame] = []
        self._is_closed = False

    @classmethod
    async def connect(cls, path: Path, hello: wire.Hello) -> Peer:
        peer = cls(*await asyncio.open_unix_connection(str(path)))
        peer.send(hello)
        return peer

    def send(self, frame: wire.Frame) -> None:
        self._writer.write(wire.pack(frame))

    async def next(self) -> wire.AnyFrame | None:
        """The next frame; None when the link is lost, or this end was closed."""
        while not self._ready and not self._is_closed:
            try:
                data = await self._reader.read(65536)
            except ConnectionResetError:  # the other end had not read all, and is gone
                return None
            if not data:
                return None
            self._ready = self._unpacker.feed(data)
        return None if self._is_closed else self._ready.pop(0)

    def close(self) -> None:
        self._is_closed = True
        self._writer.close()

    async def closed(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Act:
    """One action, from its worker's side."""

    def __init__(self, worker: FakeWorker, assign: wire.Assign) -> None:
        self.assign = assign
        self.inputs: dict[str, Any] = json.loads(assign.inputs.inline or b"{}")
        self._worker = worker

    async def call(
        self, task: str, sequence: int = 0, overrides: bytes | None = None, **inputs: Any
    ) -> wire.CallResult:
        """Call a task as a worker does; `overrides`: its changed `TaskSpec` as JSON."""
        a = self.assign
        result: wire.CallResult = await self._worker.ask(
            wire.Call(
                key=next(self._worker.keys),
                run=a.run,
                action=a.action,
                attempt=a.attempt,
                task=task,
                inputs=wire.Value(inline=json.dumps(inputs).encode()),
                sequence=sequence,
                spec=overrides,
                overridden=overrides is not None,
            )
        )
        return result

    def progress(self, body: dict[str, Any]) -> None:
        a = self.assign
        assert self._worker.link is not None
        self._worker.link.send(
            wire.Progress(run=a.run, action=a.action, attempt=a.attempt, message="report", body=body)
        )


class FakeWorker:
    def __init__(self, agent: FakeAgent, order: wire.StartUnit) -> None:
        self.agent, self.order = agent, order
        self.keys = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self.held: dict[tuple[str, str], wire.InFlight] = {}
        self.kept: dict[object, wire.Frame] = {}
        """What has no answer yet; sent again with the next link."""
        self.deaf = False
        """It goes on, and says nothing any more."""
        self.lingers = False
        """It does not end when its action is over."""
        self.spent = False
        self.link: Peer | None = None
        self.gone = False
        """The process has ended; it may have been about to connect."""

    def cut(self) -> None:
        """Lose the link and make another; the process goes on."""
        assert self.link is not None
        self.link.close()
        self.agent.run(self.live())

    def write_down(self) -> None:
        """Where the next control plane finds it: what this worker holds."""
        slot = InFlightSlot(self.order.unit, self.order.env["FLYTE_HELD"])
        slot.write(self.held.values())
        os.close(slot._file)

    def end(self) -> None:
        """The process is gone, with whatever it ran."""
        self.gone = True
        for job in self._jobs:
            job.cancel()
        if self.link is not None:
            self.link.close()

    async def live(self) -> None:
        if self.gone:
            return
        link = await self.agent.connect(
            wire.Hello(
                kind="worker",
                name=self.order.unit,
                token=self.order.env["FLYTE_LINK_TOKEN"],
                pool=self.order.env["FLYTE_POOL"],
                reuse=self.order.reuse,
                held=list(self.held.values()),
                place=slot_of(self.order.env["FLYTE_HELD"]),
                spent=self.spent,
            ),
        )
        if self.gone:
            link.close()
            return
        self.link = link
        for kept in self.kept.values():
            link.send(kept)
        while (frame := await link.next()) is not None:
            match frame:
                case wire.Assign():
                    self.agent.assigned.append(frame)
                    self.spent = not self.order.reuse
                    self.held[frame.run, frame.action] = wire.InFlight(
                        run=frame.run, action=frame.action, attempt=frame.attempt
                    )
                    self.write_down()
                    job = asyncio.create_task(self._do(frame))
                    self._jobs.add(job)
                    job.add_done_callback(self._done)
                case wire.Ping() if not self.deaf:
                    link.send(wire.Pong(at=frame.at))
                case wire.CallResult():
                    self.kept.pop(frame.key, None)
                    self.kept.pop(("cancel", frame.key), None)
                    if (future := self._answers.pop(frame.key, None)) is not None and not future.done():
                        future.set_result(frame)
                case wire.FinishedAck():
                    self.kept.pop((frame.run, frame.action), None)
                    self.held.pop((frame.run, frame.action), None)
                    if not self.order.reuse and not self.lingers:
                        self.agent.exited(self, code=0)

    async def ask(self, frame: wire.Call) -> Any:
        assert self.link is not None
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[frame.key] = future
        self.kept[frame.key] = frame
        self.link.send(frame)
        try:
            return await future
        except asyncio.CancelledError:
            if not self.gone:
                self._cancel(frame)
            raise

    def _cancel(self, call: wire.Call) -> None:
        cancel = wire.CancelCall(key=call.key, run=call.run, action=call.action, attempt=call.attempt)
        self.kept["cancel", call.key] = cancel
        if self.link is not None:
            self.link.send(cancel)

    def _done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        self.agent.note(job)

    async def _do(self, assign: wire.Assign) -> None:
        finished: dict[str, Any] = {"run": assign.run, "action": assign.action, "attempt": assign.attempt}
        try:
            value = await self.agent.behave(Act(self, assign))
        except Vanish:
            self.agent.exited(self, signal=9)
        except ValueError as error:
            info = wire.ErrorInfo(code="ValueError", message=str(error))
            self._finish(wire.Finished(error=info, **finished))
        else:
            self._finish(wire.Finished(outputs=wire.Value(inline=json.dumps([value]).encode()), **finished))

    def _finish(self, frame: wire.Finished) -> None:
        assert self.link is not None
        self.kept[frame.run, frame.action] = frame
        self.link.send(frame)


class FakeAgent:
    def __init__(self, path: Path, token: str, behave: Behave) -> None:
        self.path, self.token, self.behave = path, token, behave
        self.workers: dict[str, FakeWorker] = {}
        self.replicas: dict[str, wire.StartUnit] = {}
        self.slow: set[str] = set()
        """Apps whose replicas, from now on, are started and never ready."""
        self._unready: set[str] = set()
        self.stopped: list[wire.StopUnit] = []
        self.changed = 0
        """How many of `started` have code that has changed since."""
        self._told: dict[str, int] = {}
        self.checks: list[str] = []
        """The pools that it was asked about."""
        self.mute = False
        """It does not answer that."""
        self.assigned: list[wire.Assign] = []
        self.started: list[wire.StartUnit] = []
        self.broken: wire.ErrorInfo | None = None
        """Why no worker can be started, where none can."""
        self.deadly: set[str] = set()
        """Environments and apps whose processes end the agent when they are started."""
        self.deaths = 0
        self.link: Peer | None = None
        self.welcomes = 0
        self.failures: list[BaseException] = []
        """What went wrong in the stand-ins themselves, or in a test's behaviour of theirs."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._peers: list[Peer] = []

    async def connect(self, hello: wire.Hello) -> Peer:
        peer = await Peer.connect(self.path, hello)
        self._peers.append(peer)
        return peer

    async def live(self) -> None:
        units = [wire.UnitState(unit=unit, kind="worker", pool="", pid=1) for unit in self.workers]
        units += [self._state(order) for order in self.replicas.values()]
        link = self.link = await self.connect(wire.Hello(kind="agent", name="agent", token=self.token, units=units))
        while (frame := await link.next()) is not None:
            match frame:
                case wire.Welcome():
                    self.welcomes += 1
                case wire.StartUnit() if self.deadly & {frame.pool.name.partition("@")[0]}:
                    self.deaths += 1
                    self.die()
                case wire.StartUnit() if self.broken is not None:
                    self.started.append(frame)
                    link.send(wire.PoolFailed(pool=frame.pool.id, error=self.broken))
                    link.send(wire.UnitExited(unit=frame.unit, reason="its code cannot be loaded"))
                case wire.StartUnit() if frame.replica is not None:
                    self.started.append(frame)
                    self.replicas[frame.unit] = frame
                    link.send(wire.UnitStarted(unit=frame.unit, pid=1))
                    if frame.replica.app in self.slow:
                        self._unready.add(frame.unit)
                    else:
                        link.send(wire.UnitReady(unit=frame.unit, address="127.0.0.1:1"))
                case wire.StartUnit():
                    self.started.append(frame)
                    self._start(FakeWorker(self, frame))
                case wire.CheckPool():
                    self.checks.append(frame.pool)
                    if not self.mute:
                        link.send(self.checked(frame.pool))
                case wire.StopUnit():
                    self.stopped.append(frame)
                    if (worker := self.workers.get(frame.unit)) is not None:
                        self.exited(worker, signal=15)
                    self.end_replica(frame.unit)

    def checked(self, pool: str) -> wire.PoolChecked:
        """Its units that were started before `change` was called are outdated."""
        units = [order.unit for order in self.started[: self.changed] if order.pool.id == pool]
        found = "a file has changed" if len(units) > self._told.get(pool, 0) else ""
        self._told[pool] = len(units)
        return wire.PoolChecked(pool=pool, outdated=found, units=units)

    def change(self) -> None:
        """A file has changed that the import of all code so far has read."""
        self.changed = len(self.started)

    def _state(self, order: wire.StartUnit) -> wire.UnitState:
        replica = order.replica
        assert replica is not None
        return wire.UnitState(
            unit=order.unit,
            kind="replica",
            pool="",
            pid=1,
            ready=order.unit not in self._unready,
            address="127.0.0.1:1",
            owner=f"{replica.project}/{replica.domain}/{replica.app}@{replica.version}",
            revision=replica.revision,
        )

    def end_replica(self, unit: str) -> None:
        """It has ended, by an order or by itself."""
        if self.replicas.pop(unit, None) is not None and self.link is not None:
            self.link.send(wire.UnitExited(unit=unit, signal=15, reason="killed by signal 15"))

    def die(self) -> None:
        """End as by SIGKILL, with all processes, and be started again."""
        self.lose(*self.workers.values())
        self.replicas.clear()
        if self.link is not None:
            self.link.close()
        self.run(self.live())

    def lose(self, *workers: FakeWorker) -> None:
        """They are gone, and nobody says so."""
        for worker in workers:
            del self.workers[worker.order.unit]
            worker.end()

    def _start(self, worker: FakeWorker) -> None:
        self.workers[worker.order.unit] = worker
        self.run(worker.live())

    def run(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.note(task)

    def note(self, task: asyncio.Task[None]) -> None:
        """A task is done; how it failed, if it did. That nobody listens on the socket is no failure of ours."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, ConnectionError | FileNotFoundError):
            self.failures.append(error)

    @property
    def is_linked(self) -> bool:
        """Whether anybody here has a link, makes one, or reads what came over one before it was lost."""
        return bool(self._tasks)

    def exited(self, worker: FakeWorker, code: int | None = None, signal: int | None = None) -> None:
        if self.workers.pop(worker.order.unit, None) is None:
            return
        worker.end()
        reason = f"exit code {code}" if signal is None else f"killed by signal {signal}"
        if self.link is not None:
            self.link.send(wire.UnitExited(unit=worker.order.unit, code=code, signal=signal, reason=reason))

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self._peers:
            await peer.closed()

"""Actions whose tasks declare a cache: each asks for its result before it is given to a worker.

With `serialize=True` an action reserves its key before it looks into the cache. Others with the same key wait, in phase
queued, until the one that has it is over and that is on disk: then they find its result, or the next one computes. The
reservations are in memory. After a restart they go to those actions that were running, before anybody else asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from flyte import wire
from flyte.cache_key import has_located, key_of
from flyte.wire import ActionPhase
from tarmac.blobs import Blobs
from tarmac.control.errands import Errands
from tarmac.control.live import LiveAction, LiveRun
from tarmac.control.runs.results import Results
from tarmac.store import CacheRow, StoreError

log = logging.getLogger("tarmac.cache")

Go = Callable[[], None]
"""Lets an action compute."""


@dataclass(slots=True, eq=False)
class Reservation:
    """A key that one action computes, and the equal ones that wait for it."""

    action: LiveAction
    go: Go | None
    """None where the action had been given to a worker before this control plane began."""
    waiting: dict[str, tuple[LiveAction, Go]] = field(default_factory=dict)
    """By their ids, in the order in which they asked."""


class Caching:
    def __init__(
        self,
        results: Results,
        blobs: Blobs,
        errands: Errands,
        hit: Callable[[LiveAction, CacheRow], None],
        waits: Callable[[LiveAction, str], None],
        forget: Callable[[LiveAction], None],
    ) -> None:
        """`hit` ends an action with a stored result, `waits` says why it is queued, `forget` takes it out of queues."""
        self._results = results
        self._blobs = blobs
        self._errands = errands
        self._hit = hit
        self._waits = waits
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._reserved: dict[str, Reservation] = {}
        self._asked: list[tuple[LiveAction, Go]] = []
        """What is looked up together in the next turn of the loop."""
        self._early: list[tuple[LiveAction, Go]] | None = []
        """What asks before the runs of the last control plane are all loaded; None afterwards."""
        self._runs: Mapping[str, LiveRun] = {}

    # ------------------------------------------------------------------ asking

    def is_for(self, action: LiveAction) -> bool:
        """Whether the action has anything to do with the cache."""
        spec = action.row.spec
        if spec is not None and b'"cache":' not in spec:  # decoding it only for this would cost every other action
            return False
        return action.task_spec.cache is not None and not action.run.request.disable_cache

    def ask(self, action: LiveAction, go: Go) -> None:
        """Call `go` if the action has to compute; one whose result is in the cache ends with that instead."""
        if self._early is not None:
            self._early.append((action, go))
        elif action.row.cache_key is not None:
            self._ask(action, go)
        elif action.row.inputs is None or has_located(_inputs(action.task_spec), action.row.inputs):
            self._errands.run(self._ask_with_content(action, go))
        else:
            _set_key(action, _key(action, action.row.inputs))
            self._ask(action, go)

    async def _ask_with_content(self, action: LiveAction, go: Go) -> None:
        """Ask for an action whose inputs are in a blob, or name files, whose content has to be read first."""
        try:
            blob = action.row.inputs_blob
            inputs = action.row.inputs if blob is None else await self._blobs.get(blob)
            key = await asyncio.to_thread(_key, action, inputs or b"{}")
        except StoreError:
            raise
        except Exception:  # it is computed without the cache: its inputs are read again then, and the error told
            log.exception("%s cannot ask the cache", action.id)
            go()
            return
        if not action.over and action.worker is None:
            _set_key(action, key)
            self._ask(action, go)

    def _ask(self, action: LiveAction, go: Go) -> None:
        if action.run.request.overwrite_cache:
            go()
        elif not _is_serialized(action) or self._reserve(action, go):
            self._look_up(action, go)

    def _look_up(self, action: LiveAction, go: Go) -> None:
        self._asked.append((action, go))
        if len(self._asked) == 1:
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        asked, self._asked = self._asked, []
        self._errands.run(self._answer(asked))

    async def _answer(self, asked: list[tuple[LiveAction, Go]]) -> None:
        try:
            found = await self._results.find({_key_of(action): action.task_spec for action, _ in asked})
        except StoreError:
            raise
        except Exception:  # a cache that cannot be read is an empty one
            log.exception("the cache cannot be asked")
            found = {}
        for action, go in asked:
            if not action.over and action.worker is None:
                self._answered(action, go, found)

    def _answered(self, action: LiveAction, go: Go, found: Mapping[str, CacheRow]) -> None:
        row = found.get(_key_of(action))
        if row is not None:
            self._hit(action, row)
        elif not _is_serialized(action) or self._reserve(action, go):
            go()

    # ------------------------------------------------------------------ one computes, the others wait

    def _reserve(self, action: LiveAction, go: Go) -> bool:
        """Whether the action may go on: it has its key now, or had it, or would wait for itself."""
        held = self._reserved.get(_key_of(action))
        if held is None:
            self._reserved[_key_of(action)] = Reservation(action, go)
        elif held.action is action:
            held.go = go
        elif not self._waits_for_itself(action, held.action):
            held.waiting[action.id] = (action, go)
            self._waits(action, f"waits for the result of an equal call, which {held.action.id} began first")
            return False
        return True

    def _waits_for_itself(self, action: LiveAction, holder: LiveAction) -> bool:
        """Whether `holder` is above the action, or waits below for one that is, and so on."""
        above = {each.id for each in self._above(action)}
        todo, seen = [holder], {holder.id}
        while todo:
            one = todo.pop()
            if one.id in above:
                return True
            for each in one.still_below():
                held = self._reserved.get(each.row.cache_key or "")
                if held is not None and held.action.id not in seen and each.id in held.waiting:
                    seen.add(held.action.id)
                    todo.append(held.action)
        return False

    def _above(self, action: LiveAction) -> Iterable[LiveAction]:
        """The action, those above it in its run, the one that started the run, those above that, and so on."""
        one: LiveAction | None = action
        while one is not None:
            yield one
            if one.row.parent is not None:
                one = one.run.actions.get(one.row.parent)
            else:
                run, _, name = (one.run.request.spawned_by or "").partition("/")
                one = self._runs[run].actions.get(name) if run in self._runs else None

    def ended(self, action: LiveAction) -> None:
        """The action's end is on disk: those that waited for it look again, or one of them computes."""
        held = self._reserved.get(action.row.cache_key or "")
        if held is None or held.action is not action:
            return
        waiting = {id: (each, go) for id, (each, go) in held.waiting.items() if not each.over}
        del self._reserved[_key_of(action)]
        if action.phase.is_success:
            for each, go in waiting.values():
                self._look_up(each, go)
        elif waiting:
            self._next_computes(waiting)

    def _next_computes(self, waiting: dict[str, tuple[LiveAction, Go]]) -> None:
        """The first of those that waited has the key; the others wait for it, unless it would wait for them."""
        first, go = waiting.pop(next(iter(waiting)))
        self._reserved[_key_of(first)] = Reservation(first, go, waiting)
        self._look_up(first, go)
        if first.still_below():  # it was tried before, and what that attempt called may be among those that wait
            for each, its_go in [pair for pair in waiting.values() if self._waits_for_itself(pair[0], first)]:
                del waiting[each.id]
                self._look_up(each, its_go)

    # ------------------------------------------------------------------ after a restart

    def open(self, runs: Mapping[str, LiveRun]) -> None:
        """All runs are loaded: what was running has its key, and those that have asked meanwhile are answered.

        `runs` is a live view of those that are not over.
        """
        self._runs = runs
        running = [
            action
            for run in runs.values()
            for action in run.actions.values()
            if action.phase is ActionPhase.RUNNING and action.row.cache_key and _is_serialized(action)
        ]
        for action in sorted(running, key=lambda each: each.attempt_started or 0):
            self._reserved.setdefault(_key_of(action), Reservation(action, None))
        early, self._early = self._early or [], None
        for action, go in early:
            if not action.over and action.worker is None:
                self.ask(action, go)

    def runs_already(self, action: LiveAction) -> None:
        """A worker has the action, and nobody knew: it has its key, and another that was to compute waits for it."""
        inputs = action.row.inputs
        if not self.is_for(action) or inputs is None or has_located(_inputs(action.task_spec), inputs):
            return
        if action.row.cache_key is None:
            _set_key(action, _key(action, inputs))
        if not _is_serialized(action):
            return
        held = self._reserved.get(_key_of(action))
        if held is None:
            self._reserved[_key_of(action)] = Reservation(action, None)
        elif held.action is not action and held.action.worker is None and held.go is not None:
            self._forget(held.action)
            held.waiting = {held.action.id: (held.action, held.go), **held.waiting}
            held.action, held.go = action, None

    # ------------------------------------------------------------------ what is kept

    def result_of(self, action: LiveAction, outputs: wire.Value, now: float) -> CacheRow | None:
        """The row by which later calls find what the action returned; None where nobody may."""
        key, run = action.row.cache_key, action.run.row
        if key is None or not self.is_for(action):
            return None
        cache = action.task_spec.cache
        assert cache is not None
        return CacheRow(
            key=key,
            project=run.project,
            domain=run.domain,
            task=action.row.task,
            version=cache.version,
            run=run.name,
            action=action.name,
            outputs=outputs.inline,
            outputs_blob=outputs.blob,
            created=now,
            seconds=max(0.0, now - (action.attempt_started or now)),
        )


def _inputs(task: wire.TaskSpec) -> list[dict[str, object]]:
    return [spec.schema for spec in task.interface.inputs]


def _key(action: LiveAction, inputs: bytes) -> str:
    spec, run = action.task_spec, action.run.row
    assert spec.cache is not None
    return key_of((run.project, run.domain, action.row.task), spec.cache, spec.interface, inputs)


def _set_key(action: LiveAction, key: str) -> None:
    """The key is stored with the action's next step."""
    action.row = msgspec.structs.replace(action.row, cache_key=key)


def _key_of(action: LiveAction) -> str:
    assert action.row.cache_key is not None, f"{action.id} has not asked the cache"
    return action.row.cache_key


def _is_serialized(action: LiveAction) -> bool:
    cache = action.task_spec.cache
    return cache is not None and cache.serialize and not action.run.request.overwrite_cache

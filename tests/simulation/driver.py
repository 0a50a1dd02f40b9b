"""The same operations for the specification and the real control plane; every answer and the whole state must agree.

An operation is a kind and three numbers, and says what to do only together with the state that it meets: `("finish", 4,
0, 0)` has the fifth of the running actions return 0, or does nothing where none runs. So any part of a sequence is a
sequence too, which is what shrinking one needs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from docs import specification as spec

from flyte import wire
from flyte.cache_key import key_of
from flyte.errors import BaseRuntimeError
from flyte.names import child_name
from flyte.wire import CacheSpec, EnvironmentSpec, RetrySpec, TaskSpec, TimeoutSpec
from tarmac.control import Control
from tarmac.store import Change
from tests.simulation.world import WallClock, World, health
from tests.tarmac.fake_agent import Act, FakeWorker, Vanish
from tests.tarmac.house import X

REST = 7.0
"""Seconds after each operation in which everything comes to rest."""

NEAR = 0.3
"""Seconds within which it is not said which of two things comes first."""

APPS = ["web", "api", "db"]

PLACE = ("flytesnacks", "development")


def task(name: str, environment: str = "env", **changes: Any) -> TaskSpec:
    place = EnvironmentSpec(name=environment, kind="task")
    return TaskSpec(name=f"{environment}.{name}", entry=f"module:{name}", environment=place, interface=X, **changes)


TASKS = [
    task("add"),
    task("flaky", retries=RetrySpec(count=2)),
    task("patient", retries=RetrySpec(count=1, base=60)),
    task("slow", timeout=TimeoutSpec(max_runtime=50), retries=RetrySpec(count=1)),
    task(
        "limited",
        timeout=TimeoutSpec(deadline=333, max_runtime=97, max_queued_time=41),
        retries=RetrySpec(count=5, base=11),
    ),
    task("kept", cache=CacheSpec(version="1"), retries=RetrySpec(count=1)),
    task("young", cache=CacheSpec(version="1", max_age=457)),
    task(
        "once",
        cache=CacheSpec(version="1", serialize=True, max_age=300),
        timeout=TimeoutSpec(max_queued_time=211),
        retries=RetrySpec(count=1, base=13),
    ),
    task("waits", environment="stuck", timeout=TimeoutSpec(max_queued_time=71, deadline=1000)),
]
"""No process of the environment `stuck` ever starts."""

NAMES = [each.name for each in TASKS]

OFTEN_CALLED = ("env.flaky", "env.once", "env.once", "env.kept")

USES = ("overwritten", "ignored", *["used"] * 6)
"""What a run does with the cache."""

OVERRIDES = {each.name: b" " + msgspec.json.encode(each) for each in TASKS}
"""What is sent along with a call that overrides nothing, as somebody else would write it."""


class Operation(NamedTuple):
    kind: str
    a: int = 0
    b: int = 0
    c: int = 0


class Differs(Exception):
    """Raised when the real control plane is not what the specification says."""


class Tie(Exception):
    """Raised when two limits strike at one moment: either order is right."""


Pair = tuple[str, str, str]
"""Kind of operation, what it met, and how it was answered."""


class Running:
    """An attempt that was given to a worker, and is in the driver's hand."""

    def __init__(self, act: Act, worker: FakeWorker) -> None:
        self.which = (act.assign.run, act.assign.action, act.assign.attempt)
        self.id: spec.Id = ("", ())
        self.worker = worker
        self.end: asyncio.Future[tuple[str, Any]] = asyncio.get_running_loop().create_future()
        self.keys = 0
        self.same: Counter[tuple[str, int]] = Counter()

    @property
    def unit(self) -> str:
        return self.worker.order.unit


def declared(each: TaskSpec) -> spec.Task:
    retries, limits = each.retries, each.timeout
    cache = "" if each.cache is None else "serialized" if each.cache.serialize else "kept"
    max_age = each.cache.max_age if each.cache else None
    times = (limits.max_runtime, limits.max_queued_time, limits.deadline)
    return spec.Task(retries.count, retries.base, *times, cache, max_age)


class Driver:
    def __init__(self, world: World, wall: WallClock) -> None:
        self.world, self.wall = world, wall
        self.state = spec.State({each.name: declared(each) for each in TASKS})
        self.pairs: set[Pair] = set()
        self.done = 0
        self._acts: dict[tuple[str, str, int], Running] = {}
        self._began: list[Running] = []
        self._told: list[spec.Told] = []
        self._jobs: set[asyncio.Task[None]] = set()
        self._focus: tuple[str, str, int] = ("", "", 0)
        self._deployments = 0
        self._seen = 0
        self._present = 0.0
        """Until when the specification's time has passed."""
        world.behave = self._behave

    # ------------------------------------------------------------------ workers

    async def _behave(self, act: Act) -> Any:
        running = Running(act, act._worker)
        if running.which in self._acts:
            raise Differs(f"{running.which} is called twice")
        self._acts[running.which] = running
        self._began.append(running)
        what, value = await running.end
        if what == "raise":
            raise ValueError(value)
        if what == "vanish":
            raise Vanish
        return value

    def _name(self, id: spec.Id) -> str:
        """The action's name in the real control plane."""
        if not id[1]:
            return wire.ROOT_ACTION
        above, generation, task_name, x, sequence = id[1]
        caller = self._name((id[0], above)) + (f"~{generation}" if generation else "")
        return child_name(caller, task_name, json.dumps({"x": x}).encode(), None, sequence, None)

    def _in_hand(self) -> list[Running]:
        """The attempts that run, with workers that live and speak."""
        workers = self.world.agent.workers
        found = [
            each
            for each in self._acts.values()
            if not each.end.done() and each.unit in workers and each.which[:2] in each.worker.held
            if not each.worker.deaf
        ]
        return sorted(found, key=lambda each: each.which)

    def _chosen(self, running: list[Running], number: int) -> Running:
        """One of them; more often than not of the action or the run that was chosen last."""
        same = [each for each in running if each.which[:2] == self._focus[:2]]
        same = same or [each for each in running if each.which[0] == self._focus[0]]
        among = same if same and number % 10 < 6 else running
        chosen = among[number // 10 % len(among)]
        self._focus = chosen.which
        return chosen

    # ------------------------------------------------------------------ both sides

    def apply(self, make: Callable[[spec.State], tuple[spec.State, Any]]) -> Any:
        """The specification's next state; its answer. Raises spec.Refused."""
        after, answer = make(self.state)
        spec.promises(self.state, after)
        self.state = after
        return answer

    def _begin_due(self) -> None:
        """What must have begun has, in the order in which it really did."""
        while due := {(id[0], self._name(id), n): id for id, n in self.state.due() if not _is_stuck(id, self.state)}:
            found = next((each for each in self._began if each.which in due), None)
            if found is None:
                raise Differs(f"{sorted(due)} did not begin; what did: {[each.which for each in self._began]}")
            self._began.remove(found)
            found.id = due[found.which]
            self.apply(lambda state, found=found: state.begin(found.unit, found.id, found.which[2]))  # type: ignore[misc]

    async def rest(self, seconds: float = REST) -> None:
        """Time passes on both sides; a moment longer where something happens at the end of it."""
        moments = _moments(self.state, seconds + 20 * NEAR)
        while any(abs(self.state.now + seconds - moment) < NEAR for moment in moments):
            seconds += NEAR
        await asyncio.sleep(seconds)
        self._pass()
        if self._began:
            raise Differs(f"these began, and should not have: {[each.which for each in self._began]}")

    def _pass(self) -> None:
        """Bring the specification to the present, from event to event."""
        self._begin_due()
        seconds, self._present = self.world.loop.now - self._present, self.world.loop.now
        while seconds > 1e-9:
            step = min([seconds, *_next(self.state)])
            self.apply(lambda state, step=step: state.tick(step))  # type: ignore[misc]
            self._begin_due()
            seconds -= step

    # ------------------------------------------------------------------ comparing

    def compare(self) -> None:
        self._compare_actions()
        self._compare_memory()
        self._compare_cache()
        self._compare_told()
        self._compare_apps()
        if wrong := health(self.world) + [f"the control plane ended: {each!r}" for each in self.world.failures]:
            raise Differs(str(wrong))

    def _compare_actions(self) -> None:
        want = {(a.id[0], self._name(a.id)): self._expected(a) for a in self.state.actions.values()}
        columns = "run, name, task, phase, attempt, user_failures, system_failures, outputs, error, parent, cache"
        got = {(run, name): _stored(*rest) for run, name, *rest in self.world.rows(f"select {columns} from actions")}
        if want != got:
            differ = {
                key: (want.get(key), got.get(key)) for key in want.keys() | got.keys() if want.get(key) != got.get(key)
            }
            raise Differs(f"actions (specification, real): {differ}")

    def _expected(self, action: spec.Action) -> tuple[Any, ...]:
        outcome = action.outcome.code if isinstance(action.outcome, spec.Error) else action.outcome
        parent = self._name((action.id[0], action.id[1][0])) if action.id[1] else None
        cache = None
        if action.found is not None:
            cache = ("hit", action.found[0], self._name(action.found))
        elif action.phase == spec.SUCCEEDED and self.state.tasks[action.task].cache and action.cache != "ignored":
            cache = ("populated", "", "")
        return action.task, action.phase, action.attempt, action.user, action.system, outcome, parent, cache

    def _compare_memory(self) -> None:
        control, actions = self.world.control, self.state.actions.values()
        live = control.runs.live
        if live.keys() != (alive := {a.id[0] for a in actions if not a.id[1] and not a.over}):
            raise Differs(f"live runs {sorted(live)}, by the specification {sorted(alive)}")
        waiting = Counter(worker for worker, _ in self.state.calls)
        for a in actions:
            if a.id[0] in live and not a.over:
                real = live[a.id[0]].actions[self._name(a.id)]
                worker = real.worker.unit if real.worker else None
                if (worker, real.waiting) != (a.worker, waiting[a.worker] if a.worker else 0):
                    raise Differs(f"{a.id}: worker, open calls {worker, real.waiting}, by the specification {a.worker}")
        busy = sum(1 for a in actions if a.phase == spec.RUNNING and not waiting[a.worker or ""])
        if control.dispatch.busy != busy:
            raise Differs(f"{control.dispatch.busy} slots are taken, by the specification {busy}")

    def _compare_cache(self) -> None:
        """The results that can be used; one whose value is in a blob has lost it (`_forget`)."""
        want = {_cache_key(*call): (each.value, each.by[0], self._name(each.by)) for call, each in self._results()}
        rows = self.world.rows("select key, outputs, run, action from cache where outputs is not null")
        got = {key: (json.loads(bytes(outputs))[0], run, action) for key, outputs, run, action in rows}
        if want != got:
            raise Differs(f"results in the cache {got}, by the specification {want}")

    def _results(self) -> list[tuple[tuple[str, int], spec.Result]]:
        return sorted(self.state.results.items())

    def _compare_told(self) -> None:
        """What workers that are still there were told of their calls."""
        there = self.world.agent.workers

        def shown(told: list[spec.Told]) -> list[Any]:
            chosen = [each for each in told if each.worker in there]
            return sorted(map(str, (each._replace(value=None) if each.phase == "aborted" else each for each in chosen)))

        want, got = shown(list(self.state.told[self._seen :])), shown(self._told)
        self._seen = len(self.state.told)
        self._told.clear()
        if want != got:
            raise Differs(f"workers were told {got}, by the specification {want}")

    def _compare_apps(self) -> None:
        live = self.world.control._apps.live.values()
        got = {a.row.name: spec.App(a.row.status.value, a.row.version, a.row.wanted, bool(a.present())) for a in live}
        disk = dict(map(tuple[str, str], self.world.rows("select name, status from apps")))
        for name, app in self.state.apps.items():
            if name in got and app.status == "deploying":  # the replica that is being started is of another version
                got[name] = got[name]._replace(has_replica=app.has_replica)
        if got != self.state.apps or disk != {name: app.status for name, app in got.items()}:
            raise Differs(f"apps {got} (on disk {disk}), by the specification {dict(self.state.apps)}")
        records = {
            id: json.loads(bytes(record)) for id, record in self.world.rows("select id, record from deployments")
        }
        for id, deployment in self.state.deployments.items():
            phases = {each["name"]: each.get("phase", "waiting") for each in records[id]["environments"]}
            if (records[id]["phase"], phases) != (deployment.phase, deployment.environments):
                raise Differs(f"deployment {records[id]}, by the specification {deployment}")

    # ------------------------------------------------------------------ operations

    async def start(self) -> None:
        await self.world.up()
        request = wire.DeployRequest(version="v1", root="/", tasks=TASKS)
        await self.world.call(lambda control: control.deployments.start(request, "owner"))
        self._present = self.world.loop.now

    async def one(self, operation: Operation) -> None:
        """Raises Differs, Tie, and AssertionError where the specification's own promises are broken."""
        running = self._in_hand() if operation.kind in _WORKERS else []
        if operation.kind in _WORKERS and not running:
            operation = operation._replace(kind="create")
        if running:
            chosen = self._chosen(running, operation.a)
            action = self.state.actions[chosen.id]
            met = f"{action.task}, attempt {min(action.attempt, 3)}, {action.user} {min(action.system, 4)}"
            answer = await getattr(self, f"_{operation.kind}")(chosen, operation)
        else:
            met, answer = await getattr(self, f"_{operation.kind}")(operation)
        if answer is None:
            return
        self.done += 1
        self.pairs.add((operation.kind, met, str(answer)))
        self.world.note(operation.kind, met, "→", answer)
        if operation.kind == "set_clock":
            return  # what comes next finds it set, and nobody has looked at the clock
        await self.rest()
        self.compare()

    async def _client(
        self,
        make: Callable[[spec.State], tuple[spec.State, Any]],
        ask: Callable[[], Awaitable[Any]],
        expected: Callable[[Any], Any] = lambda answer: answer,
    ) -> Any:
        """Ask both; the answer, which is the same."""
        try:
            want = expected(self.apply(make))
        except spec.Refused as refused:
            want = f"refused: {refused}"
        try:
            got = await ask()
        except BaseRuntimeError as error:
            got = f"refused: {_REFUSALS.get(type(error).__name__, type(error).__name__)}"
        if want != got:
            raise Differs(f"the answer is {got}, by the specification {want}")
        return got

    async def _create(self, op: Operation) -> tuple[str, Any]:
        name = f"n{op.b % 8}" if op.a % 3 == 0 else None
        key = f"k{op.c % 8}" if op.a // 3 % 3 == 0 else None
        task_name, x, use = NAMES[op.b // 8 % len(NAMES)], op.c // 8 % 3, USES[op.c // 24 % len(USES)]
        known = [
            self.state.actions.get((name or "", ())),
            self.state.actions.get((self.state.keys.get(key or "", ""), ())),
        ]
        root = next((each for each in known if each is not None), None)
        if root is not None and op.a // 9 % 4:  # the same call once more
            task_name, x = root.task, root.x
        request = wire.RunRequest(
            task=task_name,
            name=name,
            idempotency_key=key,
            inputs=msgspec.Raw(json.dumps({"x": x}).encode()),
            overwrite_cache=use == "overwritten",
            disable_cache=use == "ignored",
        )
        given: list[str] = []

        async def ask() -> Any:
            run, is_new = await self.world.call(lambda control: control.runs.create(request, "owner"))
            return ("created" if is_new else "found", run.name)

        try:
            got = await ask()
            given.append(got[1])
        except BaseRuntimeError as error:
            got = f"refused: {_REFUSALS.get(type(error).__name__, type(error).__name__)}"
        try:
            fresh = given[0] if given else "?"
            want = self.apply(lambda state: state.create(name, key, task_name, x, fresh, use))
        except spec.Refused as refused:
            want = f"refused: {refused}"
        if want != got:
            raise Differs(f"create {name, key, task_name, x} is answered {got}, by the specification {want}")
        same = root is not None and (root.task, root.x) == (task_name, x)
        cached = f", {use}, {self._cached(task_name, x)}" if self.state.tasks[task_name].cache and root is None else ""
        met = f"name {name and known[0] is not None}, key {key and known[1] is not None}, same {same}{cached}"
        return met, got[0] if isinstance(got, tuple) else got

    def _cached(self, task_name: str, x: int) -> str:
        """How a call of a task that has a cache stands there."""
        call = (task_name, x)
        return "computing" if call in self.state.computing else "stored" if call in self.state.results else "new"

    async def _forget(self, op: Operation) -> tuple[str, Any]:
        """A result of the cache is deleted, or the blob that has its value is gone."""
        results = self._results()
        if not results:
            return "", None
        call, _ = results[op.a % len(results)]
        key, is_lost = _cache_key(*call), op.b % 2

        async def lose(control: Control) -> None:
            (row,) = await control.store.cached([key])
            lost = dataclasses.replace(row, outputs=None, outputs_blob="0" * 64)
            await control.store.write(Change(cache=(lost,)))

        self.apply(lambda state: state.forget(*call))
        await self.world.call(lose if is_lost else lambda control: control.cache.delete(*PLACE, None, key))
        return self._cached(*call), "its blob is gone" if is_lost else "deleted"

    def _some_run(self, number: int) -> str:
        runs = sorted({id[0] for id in self.state.actions})
        return [*runs, "nobody"][number % (len(runs) + 1)]

    def _phase(self, id: spec.Id) -> str:
        action = self.state.actions.get(id)
        return "unknown" if action is None else action.phase

    async def _get(self, op: Operation) -> tuple[str, Any]:
        run = self._some_run(op.a)

        async def ask() -> Any:
            shown = await self.world.call(lambda control: control.runs.get(run))
            outcome: Any = json.loads(bytes(shown.outputs))[0] if shown.outputs is not None else None
            outcome = shown.error.code if shown.error is not None and shown.phase.is_terminal else outcome
            return _plain(shown.phase), shown.attempt, outcome

        def expected(answer: Any) -> Any:
            phase, attempt, outcome = answer
            return phase, attempt, outcome.code if isinstance(outcome, spec.Error) else outcome

        met = self._phase((run, ()))
        answer = await self._client(lambda state: state.get(run), ask, expected)
        return met, answer[0] if isinstance(answer, tuple) else answer

    async def _abort(self, op: Operation) -> tuple[str, Any]:
        run = self._some_run(op.a)

        async def ask() -> Any:
            return _plain((await self.world.call(lambda control: control.runs.abort(run, "", "owner"))).phase)

        met = self._phase((run, ()))
        return met, await self._client(lambda state: state.abort(run), ask, lambda answer: answer[0])

    async def _abort_action(self, op: Operation) -> tuple[str, Any]:
        ids = sorted(self.state.actions, key=str)
        if not ids:
            return "", None
        id = ids[op.a % len(ids)]
        id = (id[0], (id[1], 0, "nobody", 0, 0)) if op.b % 12 == 0 else id

        async def ask() -> Any:
            name = self._name(id)
            return _plain(
                (await self.world.call(lambda control: control.actions.abort(id[0], name, "", "owner"))).phase
            )

        met = self._phase(id) + (", has children" if any(a.is_below(id) for a in self.state.actions.values()) else "")
        return met, await self._client(lambda state: state.abort_action(id), ask)

    async def _finish(self, one: Running, op: Operation) -> Any:
        value = op.b % 100
        answer = self.apply(lambda state: state.finish(one.unit, one.id, one.which[2], value))
        one.end.set_result(("return", value))
        return answer

    async def _fail(self, one: Running, op: Operation) -> Any:
        """The function raises; now and then what is not to be tried again."""
        run, action, attempt = one.which
        if op.b % 4:
            error = spec.Error("ValueError")
            one.end.set_result(("raise", "no"))
        else:
            error = spec.Error("Fatal", retryable=False)
            info = wire.ErrorInfo(code="Fatal", message="x", retryable=False)
            one.worker._finish(wire.Finished(run=run, action=action, attempt=attempt, error=info))
        self.apply(lambda state: state.finish(one.unit, one.id, attempt, None, error))
        return self._phase(one.id)

    async def _call(self, one: Running, op: Operation) -> Any:
        """Most calls are of few kinds, so that another attempt finds them."""
        task_name, x = NAMES[op.b // 2 % len(NAMES)], op.c % 2
        if op.b % 2 == 0:
            task_name, x = OFTEN_CALLED[op.c % 4], 0
        if str(one.id).count("(") > 6:
            task_name = "env.add"
        one.keys += 1
        repeats = op.a % 3 == 0 and one.same[task_name, x] > 0  # two calls that wait for one child
        key, sequence = one.keys, one.same[task_name, x] - repeats
        one.same[task_name, x] += not repeats
        run, action, attempt = one.which
        before = self.state.actions
        child = self.apply(lambda state: state.call(one.unit, one.id, attempt, key, task_name, x, sequence))
        found = before[child].phase if child in before else "new"
        frame = wire.Call(
            key=key,
            run=run,
            action=action,
            attempt=attempt,
            task=task_name,
            inputs=wire.Value(inline=json.dumps({"x": x}).encode()),
            sequence=sequence,
            spec=OVERRIDES[task_name] if op.c % 5 == 0 else None,
            overridden=op.c % 5 == 0,
        )
        job = asyncio.ensure_future(self._asked(one, key, frame))
        self._jobs.add(job)
        one.worker._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        waits = self.state.actions[child].waits is not None
        return f"{found}, generation {min(child[1][1], 2)}{', waits for an equal one' if waits else ''}"

    async def _asked(self, one: Running, key: int, frame: wire.Call) -> None:
        result = await one.worker.ask(frame)
        done = result.phase == "succeeded"
        value = json.loads(result.outputs.inline)[0] if done else result.error.code if result.error else None
        self._told.append(spec.Told(one.unit, key, result.phase.value, value))

    async def _cancel(self, one: Running, op: Operation) -> Any:
        open_calls = sorted(key for worker, key in self.state.calls if worker == one.unit)
        if not open_calls:
            return None
        key = open_calls[op.b % len(open_calls)]
        run, action, attempt = one.which
        child = self.state.calls[one.unit, key]
        self.apply(lambda state: state.cancel(one.unit, one.id, attempt, key))
        assert one.worker.link is not None
        one.worker.link.send(wire.CancelCall(key=key, run=run, action=action, attempt=attempt))
        return self._phase(child)

    async def _vanish(self, one: Running, op: Operation) -> Any:
        self.apply(lambda state: state.lose(one.unit, by_itself=False))
        one.end.set_result(("vanish", None))
        return self._phase(one.id)

    async def _exit(self, one: Running, op: Operation) -> Any:
        self.apply(lambda state: state.lose(one.unit, by_itself=True))
        self.world.agent.exited(one.worker, code=3)
        return self._phase(one.id)

    async def _stale(self, one: Running, op: Operation) -> Any:
        """A worker speaks for an attempt that it has not."""
        run, action, attempt = one.which
        linked = [each for each in self.world.agent.workers.values() if each.link is not None and not each.deaf]
        other = linked[op.b % len(linked)]
        numbers = [n for n in (attempt - 1, attempt + 1, attempt) if n > 0 and (n, other) != (attempt, one.worker)]
        wrong = numbers[op.c % len(numbers)]
        answer = self.apply(lambda state: state.finish(other.order.unit, one.id, wrong, 77))
        assert answer == "fenced"
        assert other.link is not None
        lingers, held, other.lingers = other.lingers, dict(other.held), True
        other.link.send(wire.Finished(run=run, action=action, attempt=wrong, outputs=wire.Value(inline=b"[77]")))
        await self.rest()
        other.lingers = lingers
        other.held |= held
        return answer

    async def _cut(self, one: Running, op: Operation) -> Any:
        """The link is lost, and made anew: nothing has happened."""
        one.worker.cut()
        return "goes on"

    async def _silence(self, one: Running, op: Operation) -> Any:
        """A worker says nothing any more, and is lost when its lease is over."""
        one.worker.deaf = True
        self.apply(lambda state: state.fall_silent(one.unit))
        began = self.world.loop.now
        while one.unit in self.world.control.dispatch.workers:
            if self.world.loop.now - began > 2 * spec.LEASE:
                raise Differs("a silent worker is never lost")
            await asyncio.sleep(0.05)
        present = self.state.now + self.world.loop.now - self._present
        limits = map(self.state.next_limit, self.state.actions.values())
        if any(limit is not None and abs(limit[0] - present) < NEAR for limit in limits):
            raise Tie
        self._pass()
        if one.unit in self.state.silent:  # else a limit has struck meanwhile
            self.apply(lambda state: state.lease_over(one.unit))
        self.world.agent.workers.pop(one.unit, None)
        return self._phase(one.id)

    async def _agent(self, op: Operation) -> tuple[str, Any]:
        """The agent dies with all its processes, and another one is there at once."""
        if self._is_deploying() or any(_is_stuck(a.id, self.state) and not a.over for a in self.state.actions.values()):
            return "", None
        met = f"{sum(a.worker is not None for a in self.state.actions.values()) > 0}"
        self.apply(lambda state: state.agent_dies())
        self.world.agent.die()
        await self.rest(40)
        return met, "another one"

    async def _crash(self, op: Operation) -> tuple[str, Any]:
        running = self._in_hand()
        lost = [running[(op.b + at) % len(running)] for at in range(min(op.a % 3, len(running)))] if running else []
        units = tuple(dict.fromkeys(each.unit for each in lost))
        met = f"{len(units)} lost, deploying {self._is_deploying()}"
        self._check_who_runs_longest()
        self.world.crash()
        await asyncio.sleep(0.01)
        self.world.agent.lose(*(self.world.agent.workers[unit] for unit in units))
        if op.c % 5 == 0:
            self.wall.ahead += (50, 3600, 86400)[op.b % 3]
            met += ", the clock is set"
        self.apply(lambda state: state.crash(units))
        self.world.agent.slow.clear()
        await self.world.up()
        return met, "another one"

    def _check_who_runs_longest(self) -> None:
        """Raises Tie where that is not clear of equal calls: either of them may be who computes after a crash."""
        once = [a for a in self.state.actions.values() if a.phase == spec.RUNNING and a.task == "env.once"]
        for one, other in itertools.combinations(once, 2):
            if one.x == other.x and abs(one.began - other.began) < NEAR:
                raise Tie

    async def _set_clock(self, op: Operation) -> tuple[str, Any]:
        self.wall.ahead += (10, 50, 3600, 86400)[op.a % 4]
        return "", "nothing changes"

    async def _tick(self, op: Operation) -> tuple[str, Any]:
        await self.rest(7 + op.a % 120)
        return "", "time passes"

    # ------------------------------------------------------------------ apps

    def _is_deploying(self) -> bool:
        return any(each.phase == spec.RUNNING for each in self.state.deployments.values())

    async def _deploy(self, op: Operation) -> tuple[str, Any]:
        if self._is_deploying():
            return "", None
        version = f"v{op.a % 3}"
        chosen = [app for at, app in enumerate(APPS) if op.b >> at & 1] or APPS[:1]
        levels = (tuple(chosen),) if op.c % 2 else tuple((app,) for app in chosen)
        before = self.state.apps
        broken = chosen[op.c // 2 % len(chosen)] if op.c % 3 == 0 else ""
        served = before.get(broken)
        if served is not None and served.version == version and served.wanted == "active":
            broken = ""  # it is what serves already
        order = {
            app: [other for level in levels[:at] for other in level] for at, level in enumerate(levels) for app in level
        }
        apps = [_app(name, version) for name in chosen]
        request = wire.DeployRequest(version=version, root=f"/{version}", apps=apps, order=order)
        if broken:
            self.world.agent.slow.add(broken)
        id = (await self.world.call(lambda control: control.deployments.start(request, "owner"))).id
        answer = self.apply(lambda state: state.deploy(id, version, levels, broken))
        met = ", ".join(before[app].status if app in before else "new" for app in chosen)
        return f"{met}, levels {len(levels)}", answer

    async def _break_off(self, op: Operation) -> tuple[str, Any]:
        """The replica of the deployment that does not get on ends."""
        found = next(((id, d) for id, d in self.state.deployments.items() if d.phase == spec.RUNNING), None)
        if found is None:
            return "", None
        id, deployment = found
        app = next(name for name, phase in deployment.environments.items() if phase == "starting")
        self.apply(lambda state: state.break_off(id, app))
        for unit in list(self.world.agent._unready):
            self.world.agent.end_replica(unit)
        self.world.agent._unready.clear()
        self.world.agent.slow.clear()
        before = deployment.before[app]
        return before.status if before else "new", "taken back"

    async def _app(self, op: Operation) -> tuple[str, Any]:
        """Something is done to an app, or happens to it."""
        name = APPS[op.a % 3]
        path = f"{'/'.join(PLACE)}/{name}"
        if self._is_deploying():
            return "", None
        app = self.state.apps.get(name)
        met = app.status if app else "unknown"
        world, what = self.world, ("wake", "activate", "deactivate", "delete", "doze", "die")[op.b % 6]

        async def done(make: Callable[[Any], Awaitable[Any]]) -> Any:
            shown = await world.call(make)
            return shown.status.value if shown is not None else None

        async def woken() -> Any:
            answer = await world.gateway.wake(path)
            return "active" if answer.ok else "refused: no"

        match what:
            case "wake":
                try:
                    want = self.apply(lambda state: state.wake(name))
                except spec.Refused:
                    want = "refused: no"
                got = await woken()
                if want != got:
                    raise Differs(f"waking {name} is answered {got}, by the specification {want}")
                return f"{what} {met}", got
            case "activate":
                got = await self._client(
                    lambda state: state.activate(name),
                    lambda: done(lambda c: c.apps.activate(wire.AppId(*PLACE, name), 10, "owner")),
                )
            case "deactivate":
                got = await self._client(
                    lambda state: state.deactivate(name),
                    lambda: done(lambda c: c.apps.deactivate(wire.AppId(*PLACE, name), None, "owner")),
                )
            case "delete":
                got = await self._client(
                    lambda state: state.delete(name),
                    lambda: done(lambda c: c.apps.delete(wire.AppId(*PLACE, name), "owner")),
                )
                got = got or "gone"
            case "doze" if app is not None and app.has_replica:
                self.apply(lambda state: state.doze(name))
                world.gateway.quiet(path)
                got = "sleeping"
            case "die" if app is not None and app.has_replica:
                self.apply(lambda state: state.replica_dies(name))
                world.agent.end_replica(
                    next(u for u, o in world.agent.replicas.items() if o.replica and o.replica.app == name)
                )
                await self.rest(40)
                got = "another one"
            case _:
                return "", None
        return f"{what} {met}", got


_WORKERS = frozenset({"finish", "fail", "call", "cancel", "vanish", "exit", "stale", "cut", "silence"})

KINDS = {
    "create": 20,
    "finish": 16,
    "fail": 10,
    "call": 28,
    "cancel": 6,
    "abort": 3,
    "abort_action": 3,
    "get": 3,
    "forget": 5,
    "vanish": 7,
    "exit": 3,
    "stale": 4,
    "cut": 2,
    "silence": 1,
    "crash": 6,
    "agent": 2,
    "set_clock": 3,
    "tick": 4,
    "deploy": 4,
    "break_off": 2,
    "app": 6,
}
"""Each kind of operation → how often it is drawn to begin with."""

_REFUSALS = {
    "RunNotFoundError": "NotFound",
    "ActionNotFoundError": "NotFound",
    "AppNotFoundError": "NotFound",
    "RemoteTaskNotFoundError": "NotFound",
    "RunAlreadyExistsError": "RunAlreadyExists",
}


def _is_stuck(id: spec.Id, state: spec.State) -> bool:
    return state.actions[id].task.startswith("stuck.")


def _next(state: spec.State) -> list[float]:
    """Seconds until each of what happens by itself. Raises Tie where two limits strike at one moment.

    That a result gets too old is such a limit for the calls that ask for it.
    """
    limits = sorted(limit[0] for a in state.actions.values() if (limit := state.next_limit(a)) is not None)
    if any(one - state.now < NEAR and other - one < NEAR for one, other in itertools.pairwise(limits)):
        raise Tie
    ready = [a.ready for a in state.actions.values() if a.phase == spec.QUEUED]
    ages = [(result.at, state.tasks[name].max_age) for (name, _), result in state.results.items()]
    too_old = [at + limit for at, limit in ages if limit is not None]
    if any(abs(one - other) < NEAR for one in ready for other in too_old if one > state.now):
        raise Tie
    moments = ready + limits + too_old
    return [moment - state.now for moment in moments if moment > state.now + 1e-9]


def _moments(state: spec.State, seconds: float) -> list[float]:
    """When something happens by itself within so many seconds, if everything begins that can."""
    end, found = state.now + seconds, []
    while state.now < end:
        for number, (id, attempt) in enumerate(sorted(state.due(), key=str)):
            if not _is_stuck(id, state) and (id, attempt) in state.due():  # else an equal one has just begun
                state = state.begin(f"{number} at {state.now}", id, attempt)[0]
        state = state.tick(min([end - state.now, *_next(state)]))[0]
        found.append(state.now)
    return found[:-1]


def _plain(phase: wire.ActionPhase) -> str:
    return "queued" if phase == "initializing" else phase.value


@functools.cache
def _cache_key(task_name: str, x: int) -> str:
    (found,) = (each for each in TASKS if each.name == task_name)
    assert found.cache is not None
    return key_of((*PLACE, task_name), found.cache, found.interface, json.dumps({"x": x}).encode())


def _stored(
    task_name: str, phase: str, attempt: int, user: int, system: int, outputs: Any, error: Any, parent: Any, cache: Any
) -> Any:
    outcome = None
    if phase in spec.OVER:
        outcome = json.loads(bytes(outputs))[0] if phase == "succeeded" else json.loads(bytes(error))["code"]
    use = msgspec.json.decode(bytes(cache), type=wire.CacheUse) if cache is not None else None
    shown = None if use is None else (use.status, use.run, use.action)
    return task_name, "queued" if phase == "initializing" else phase, attempt, user, system, outcome, parent, shown


def _app(name: str, version: str) -> wire.AppSpec:
    environment = EnvironmentSpec(name=name, kind="app")
    scaling = wire.ScalingSpec(scaledown_after=300)
    return wire.AppSpec(name=name, environment=environment, kind="command", argv=["x", version], scaling=scaling)

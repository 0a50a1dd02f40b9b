"""The specification of the control plane, as a program: state × operation → state × answer.

This is the first chapter of the documentation, and it runs: `tests/simulation` gives the same random operations to a
`State` and to the real control plane, and compares every answer and the whole state after each of them.

A *run* is a tree of *actions*. An action is tried in *attempts*; one *worker* has the attempt that runs. An action may
*call* a task, which starts a child action or finds it. What a task with a *cache* returns is kept for equal calls. An
*app* has one version that serves and, unless it sleeps, a replica. A *deployment* brings new versions of apps: all of
them, or none.

Every public method of `State` is an operation: `state, answer = state.create("n", None, "add", 1)`. It raises Refused
where the answer is an error; nothing has changed then. There is no clock, no chance and no I/O in it. Left open is only
the order in which queued actions begin: `due` says which must. `promises` says what holds for each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

Step = tuple["State", Any]  # the next state, and the answer

# ------------------------------------------------------- the states; docs/states.md says what makes each move

QUEUED, RUNNING = "queued", "running"
SUCCEEDED, FAILED, ABORTED, TIMED_OUT = "succeeded", "failed", "aborted", "timed_out"
OVER = frozenset({SUCCEEDED, FAILED, ABORTED, TIMED_OUT})

ACTION_MOVES = {
    QUEUED: {"initializing", RUNNING, SUCCEEDED, FAILED, ABORTED, TIMED_OUT},  # succeeded: its result was in the cache
    "initializing": {QUEUED, RUNNING, FAILED, ABORTED, TIMED_OUT},  # queued, and a process is being started for it
    RUNNING: {QUEUED, SUCCEEDED, FAILED, ABORTED, TIMED_OUT},
}
APP_STATUSES = {"deploying", "active", "sleeping", "stopped", "failed"}
APP_MOVES = {old: APP_STATUSES - {old} for old in APP_STATUSES}
DEPLOYMENT_MOVES = {RUNNING: {SUCCEEDED, FAILED}}
ENVIRONMENT_MOVES = {
    "waiting": {"building", "starting", "ready", "unchanged", FAILED},
    "building": {"waiting", FAILED, "rolled_back"},  # its image is being made: waiting, as far as this text goes
    "starting": {"ready", FAILED, "rolled_back"},
    "ready": {"rolled_back"},
}

SYSTEM_RETRIES = 3  # attempts that an action gets besides its own retries when its workers are lost
LEASE = 60.0  # a worker that says nothing is lost after so many seconds: between three quarters and twice of that

# What an attempt ends with whose time is over → whether another one may follow.
LIMITS = {"MaxRuntimeExceededError": True, "MaxQueuedTimeExceededError": False, "DeadlineExceededError": False}


class Task(NamedTuple):
    """What is declared of a task. Times are seconds; `pause` comes before each attempt that follows a failure."""

    retries: int = 0
    pause: float = 0
    max_runtime: float | None = None
    max_queued_time: float | None = None
    deadline: float | None = None
    cache: str = ""  # "kept": equal calls get the stored result; "serialized": and of those at one time one computes
    max_age: float | None = None  # of a stored result


class Error(NamedTuple):
    code: str
    system: bool = False  # a worker was lost; else the function failed
    retryable: bool = True


STOPPED = Error("ActionAbortedError", retryable=False)
LOST = Error("WorkerLostError", system=True)

Id = tuple[str, tuple[Any, ...]]  # run and path: () for its root, else (caller's path, generation, task, x, sequence)


class Result(NamedTuple):
    """What an equal call gets: the value, who computed it, and when."""

    value: Any
    by: Id
    at: float


@dataclass(frozen=True)
class Action:
    id: Id
    task: str
    x: int  # its inputs
    created: float
    ready: float  # when the attempt may begin
    phase: str = QUEUED
    attempt: int = 1
    user: int = 0  # failures of the function so far
    system: int = 0  # losses so far that count
    outcome: Any = None  # the value of one that succeeded, the Error of one that ended otherwise
    began: float = 0
    worker: str | None = None
    cache: str = "used"  # by its run; else "overwritten", or "ignored"
    waits: Id | None = None  # for the result of an equal call, which computes
    found: Id | None = None  # whose result it was given, where that was in the cache

    @property
    def over(self) -> bool:
        return self.phase in OVER

    def is_below(self, above: Id) -> bool:
        run, path = self.id
        while path and (run, path[0]) != above:
            path = path[0]
        return bool(path)


class App(NamedTuple):
    status: str
    version: str | None = None  # the one that serves; None as long as none was ever ready
    wanted: str = "active"
    has_replica: bool = False


class Deployment(NamedTuple):
    version: str
    phase: str
    environments: Mapping[str, str]  # environment → phase; each of them is an app here
    before: Mapping[str, App | None] = {}  # how the apps were that it has touched; None: there was none


class Told(NamedTuple):
    """A worker is told how its call ended: with the value, or with the error's code."""

    worker: str
    key: int
    phase: str
    value: Any = None


class Refused(Exception):
    """The operation is answered with an error of this code; nothing has changed."""


@dataclass(frozen=True)
class State:
    tasks: Mapping[str, Task]
    now: float = 0
    keys: Mapping[str, str] = field(default_factory=dict)  # idempotency key → run
    actions: Mapping[Id, Action] = field(default_factory=dict)
    calls: Mapping[tuple[str, int], Id] = field(default_factory=dict)  # without an answer: (worker, its number) → child
    silent: Mapping[str, float] = field(default_factory=dict)  # workers that say nothing any more → since when
    begun: frozenset[tuple[Id, int]] = frozenset()  # attempts that ever began
    told: tuple[Told, ...] = ()  # what workers were told of their calls
    results: Mapping[tuple[str, int], Result] = field(default_factory=dict)  # the cache: (task, x) → what was computed
    computing: Mapping[tuple[str, int], Id] = field(default_factory=dict)  # serialized calls → the action that has them
    apps: Mapping[str, App] = field(default_factory=dict)
    deployments: Mapping[str, Deployment] = field(default_factory=dict)

    # ---------------------------------------------------------------------------------------- what clients ask for

    def create(self, name: str | None, key: str | None, task: str, x: int, fresh: str = "", use: str = "used") -> Step:
        """Start a run, or find it: a key stands for one call, for the run that it started or found by its name.

        `fresh` is the name of a run that is given none; `use` says what it does with the cache.
        """
        if task not in self.tasks:
            raise Refused("NotFound")
        by_key = self.keys.get(key) if key else None
        found = by_key or (name if (name, ()) in self.actions else None)
        if found is not None:
            root = self.actions[found, ()]
            if (root.task, root.x) != (task, x) or (by_key and name not in (None, by_key)):
                raise Refused("RunAlreadyExists")
        run = found or name or fresh
        after = self if found else self._put(Action((run, ()), task, x, self.now, self.now, cache=use))
        after = replace(after, keys={**self.keys, key: run}) if key else after
        return after._ask(), ("found" if found else "created", run)

    def get(self, run: str) -> Step:
        """A run is shown as its root is: phase, attempt and, once it is over, outcome."""
        root = self._action((run, ()))
        return self, (root.phase, root.attempt, root.outcome)

    def abort(self, run: str) -> Step:
        """A run that is over stays as it is."""
        return self.abort_action((run, ()))[0].get(run)

    def abort_action(self, id: Id) -> Step:
        action = self._action(id)
        after = self if action.over else self._end(action, ABORTED, STOPPED)
        return after, after.actions[id].phase

    def forget(self, task: str, x: int) -> Step:
        """A result is deleted, or the value that it names is gone: from now on there is none."""
        return replace(self, results={call: r for call, r in self.results.items() if call != (task, x)}), None

    # ---------------------------------------------------------------------------------------- what workers say

    def due(self) -> set[tuple[Id, int]]:
        """The attempts that must begin, given enough slots. Of equal calls that are serialized, any one may."""
        ready = (a for a in self.actions.values() if a.phase == QUEUED and a.ready <= self.now and a.waits is None)
        return {(a.id, a.attempt) for a in ready}

    def begin(self, worker: str, id: Id, attempt: int) -> Step:
        assert (id, attempt) in self.due(), f"{worker} begins {id}, attempt {attempt}, which is not due"
        assert (id, attempt) not in self.begun, f"{worker} begins {id}, attempt {attempt}, which had begun"
        action = replace(self.actions[id], phase=RUNNING, worker=worker, began=self.now)
        after = replace(self._put(action), begun=self.begun | {(id, attempt)})
        if self._is_serialized(action):
            after = replace(after, computing={(action.task, action.x): id, **self.computing})
        return after._ask(), None

    def finish(self, worker: str, id: Id, attempt: int, value: Any, error: Error | None = None) -> Step:
        action = self._its(worker, id, attempt)
        if action is None:
            return self, "fenced"
        if error is not None:
            return self._failed(action, error), "taken"
        kept = {(action.task, action.x): Result(value, id, self.now)} if self._has_cache(action) else {}
        return replace(self, results={**self.results, **kept})._end(action, SUCCEEDED, value), "taken"

    def call(self, worker: str, id: Id, attempt: int, key: int, task: str, x: int, sequence: int) -> Step:
        """Start a child, or find the one that an earlier attempt started.

        An action that failed by itself calls anew what had failed: each of its failures begins another generation.
        """
        caller = self._its(worker, id, attempt)
        if caller is None:
            return self, None
        for generation in range(caller.user + 1):
            called = (id[0], (id[1], generation, task, x, sequence))
            child = self.actions.get(called)
            if child is None or not child.over or child.phase == SUCCEEDED:
                break
        after = self if child else self._put(Action(called, task, x, self.now, self.now, cache=caller.cache))
        return replace(after, calls={**self.calls, (worker, key): called})._answer()._ask(), called

    def cancel(self, worker: str, id: Id, attempt: int, key: int) -> Step:
        """The caller does not wait any more. A child for which nobody waits is aborted."""
        after = replace(self, told=(*self.told, Told(worker, key, ABORTED)))
        child = self.calls.get((worker, key))
        if child is None or self._its(worker, id, attempt) is None:
            return after, None
        after = replace(after, calls={call: id for call, id in self.calls.items() if call != (worker, key)})
        return after if child in after.calls.values() else after.abort_action(child)[0], None

    # ---------------------------------------------------------------------------------------- what happens to them

    def lose(self, worker: str, by_itself: bool) -> Step:
        """A worker's process has ended: by itself with an exit code, or by a signal."""
        return self._lose(Error("ProcessExited") if by_itself else LOST, worker), None

    def fall_silent(self, worker: str) -> Step:
        return replace(self, silent={**self.silent, worker: self.now}), None

    def lease_over(self, worker: str) -> Step:
        assert LEASE * 0.75 <= self.now - self.silent[worker] <= LEASE * 2, f"{worker} is not lost at its time"
        return self._lose(LOST, worker), None

    def agent_dies(self) -> Step:
        """All workers and replicas are gone. That costs no attempt, and an app that had a replica gets another."""
        workers = sorted({a.worker for a in self.actions.values() if a.worker})
        return self._lose(LOST, *workers, counted=False), None

    def crash(self, lost: tuple[str, ...]) -> Step:
        """The control plane ends, and another one takes over: a deployment that was under way is taken back.

        `lost` are the workers and apps whose processes ended while no control plane was there; that costs no attempt.
        Of serialized calls that are equal, the one that runs longest is from now on who computes it.
        """
        running = [a for a in self.actions.values() if a.phase == RUNNING and self._is_serialized(a)]
        oldest = {(a.task, a.x): a.id for a in sorted(running, key=lambda a: -a.began)}
        after = replace(self, computing=oldest)._lose(LOST, *lost, counted=False)
        for name in lost:
            if (app := after.apps.get(name)) is not None and app.has_replica:
                after = after._put_app(name, app._replace(status="sleeping", has_replica=False))
        for name in [name for name, deployment in self.deployments.items() if deployment.phase == RUNNING]:
            after = after._take_back(name)
        return after._ask(), None

    def tick(self, seconds: float) -> Step:
        """Time passes. Who drives this takes care that no two limits strike within one tick."""
        after = replace(self, now=self.now + seconds)
        for id in self.actions:
            limit = after.next_limit(after.actions[id])
            if limit is not None and limit[0] <= after.now + 1e-9:
                after = after._failed(after.actions[id], Error(limit[1], retryable=LIMITS[limit[1]]))
        assert all(after.now - since <= LEASE * 2 for since in after.silent.values()), "a silent worker is not lost"
        return after._ask(), None

    def next_limit(self, action: Action) -> tuple[float, str] | None:
        """When the first of an action's limits strikes, and with what. `deadline` is for all attempts together."""
        task, limits = self.tasks[action.task], []
        if task.deadline is not None:
            limits.append((action.created + task.deadline, "DeadlineExceededError"))
        if action.phase == RUNNING and task.max_runtime is not None:
            limits.append((action.began + task.max_runtime, "MaxRuntimeExceededError"))
        if action.phase == QUEUED and task.max_queued_time is not None:
            limits.append((action.ready + task.max_queued_time, "MaxQueuedTimeExceededError"))
        return None if action.over else min(limits, default=None)

    # ---------------------------------------------------------------------------------------- the steps of these

    def _action(self, id: Id) -> Action:
        if id not in self.actions:
            raise Refused("NotFound")
        return self.actions[id]

    def _its(self, worker: str, id: Id, attempt: int) -> Action | None:
        """The fence: a worker speaks for an attempt as long as it has it."""
        action = self.actions.get(id)
        is_its = action is not None and (action.worker, action.attempt, action.phase) == (worker, attempt, RUNNING)
        return action if is_its else None

    def _failed(self, action: Action, error: Error, counted: bool = True) -> State:
        """Try again or end: failures of the function count against `retries`, losses against SYSTEM_RETRIES."""
        task = self.tasks[action.task]
        if error.system:
            action = replace(action, system=action.system + counted)
            again, pause = action.system <= SYSTEM_RETRIES, min(0.1 * 2**action.system, 5)
        else:
            action = replace(action, user=action.user + 1)
            again, pause = error.retryable and action.user <= task.retries, task.pause
        if not again:
            return self._end(action, TIMED_OUT if error.code in LIMITS else FAILED, error)
        after = replace(action, phase=QUEUED, attempt=action.attempt + 1, worker=None, ready=self.now + pause)
        return self._let_go(action)._put(after)._ask()

    def _end(self, action: Action, phase: str, outcome: Any) -> State:
        """The action has ended, and whatever below it has not is aborted. Those who called one of them are told."""
        below = [each for each in self.actions.values() if each.is_below(action.id) and not each.over]
        after = self._let_go(action)._put(replace(action, phase=phase, outcome=outcome, worker=None, waits=None))
        for each in below:
            after = after._let_go(each)._put(replace(each, phase=ABORTED, outcome=STOPPED, worker=None, waits=None))
        return after._answer()._ask()

    def _answer(self) -> State:
        """The calls of what is over are answered."""
        ended = {call: a for call, id in self.calls.items() if (a := self.actions[id]).over}
        told = [Told(*call, a.phase, getattr(a.outcome, "code", a.outcome)) for call, a in ended.items()]
        calls = {call: id for call, id in self.calls.items() if call not in ended}
        return replace(self, calls=calls, told=(*self.told, *told))

    def _let_go(self, action: Action) -> State:
        """The attempt is over, and its worker with it: its calls get no answer, and its silence ends nothing more."""
        calls = {call: id for call, id in self.calls.items() if call[0] != action.worker}
        return replace(self, calls=calls, silent={w: since for w, since in self.silent.items() if w != action.worker})

    def _lose(self, error: Error, *workers: str, counted: bool = True) -> State:
        after = self
        for id in [a.id for worker in workers for a in self.actions.values() if a.worker == worker]:
            after = after._failed(after.actions[id], error, counted)
        return after

    def _put(self, action: Action) -> State:
        before = self.actions.get(action.id)
        _check_move(ACTION_MOVES, before.phase if before else None, action.phase)
        return replace(self, actions={**self.actions, action.id: action})

    # ---------------------------------------------------------------------------------------- the cache

    def _ask(self) -> State:
        """Who may begin asks the cache first: it ends with the result, or waits for the one that computes it."""
        computing = {call: id for call, id in self.computing.items() if not self.actions[id].over}
        after = replace(self, computing=computing)
        for action in [a for a in self.actions.values() if a.waits and a.waits not in computing.values()]:
            after = after._put(replace(action, waits=None))
        for action in [after.actions[id] for id, _ in sorted(after.due(), key=str)]:
            result = after.results.get((action.task, action.x))
            age, limit = after.now - result.at if result else 0, self.tasks[action.task].max_age
            if after.actions[action.id] != action or not self._has_cache(action) or action.cache == "overwritten":
                continue  # or what was above it has ended meanwhile
            if (other := after._computed_by(action)) is not None:
                after = after._put(replace(action, waits=other))
            elif result and (limit is None or age <= limit):
                after = after._end(replace(action, found=result.by), SUCCEEDED, result.value)
        return after

    def _computed_by(self, action: Action) -> Id | None:
        """Who computes its result; None where nobody does, or where that one waits for this one."""
        computing = self.computing.get((action.task, action.x)) if self._is_serialized(action) else None
        chain = [computing] if computing not in (None, action.id) else []
        for id in chain:
            if action.is_below(id):
                return None
            chain += {a.waits for a in self.actions.values() if a.waits and a.is_below(id)} - {*chain}
        return chain[0] if chain else None

    def _has_cache(self, action: Action) -> bool:
        return bool(self.tasks[action.task].cache) and action.cache != "ignored"

    def _is_serialized(self, action: Action) -> bool:
        return self.tasks[action.task].cache == "serialized" and action.cache == "used"

    # ---------------------------------------------------------------------------------------- apps and deployments

    def deploy(self, name: str, version: str, levels: tuple[tuple[str, ...], ...], broken: str = "") -> Step:
        """Level by level: start the new version beside the old one, and switch when it answers. `broken` never does."""
        waiting = {app: "waiting" for level in levels for app in level}
        after = replace(self, deployments={**self.deployments, name: Deployment(version, RUNNING, waiting)})
        for level in levels:
            for app in level:
                after = after._deploy_app(name, app, answers=app != broken)
            if broken in level:
                return after, RUNNING  # until its replica dies (`break_off`), or the control plane (`crash`)
        return after._end_deployment(name, SUCCEEDED), SUCCEEDED

    def break_off(self, name: str, app: str) -> Step:
        """The replica of a deployment's new version has ended before it ever answered."""
        return self._put_environment(name, app, FAILED)._take_back(name), None

    def wake(self, name: str) -> Step:
        """A request came. An app that is stopped does not start of it."""
        if self._app(name).wanted != "active":
            raise Refused("DeploymentError")
        return self.activate(name)

    def activate(self, name: str) -> Step:
        return self._put_app(name, App("active", self._app(name).version, "active", has_replica=True)), "active"

    def doze(self, name: str) -> Step:
        """No request came for the app's `scaledown_after`, and nothing is open to its replica."""
        sleeping = self._app(name)._replace(status="sleeping", has_replica=False)
        return self._put_app(name, sleeping) if self._app(name).has_replica else self, None

    def deactivate(self, name: str) -> Step:
        return self._put_app(name, App("stopped", self._app(name).version, "stopped")), "stopped"

    def delete(self, name: str) -> Step:
        self._app(name)
        return replace(self, apps={other: app for other, app in self.apps.items() if other != name}), None

    def replica_dies(self, name: str) -> Step:
        """Another one is started: at once, or after a pause of 30 seconds at most where they keep dying young."""
        self._app(name)
        return self, None

    def _deploy_app(self, name: str, app: str, answers: bool) -> State:
        old, deployment = self.apps.get(app), self.deployments[name]
        if old is not None and old.version == deployment.version and old.wanted == "active":
            return self.activate(app)[0]._put_environment(name, app, "unchanged")
        touched = deployment._replace(before={**deployment.before, app: old})
        after = replace(self, deployments={**self.deployments, name: touched})
        after = after._put_environment(name, app, "starting")
        after = after._put_app(app, (old or App("deploying"))._replace(status="deploying"))
        if not answers:
            return after
        after = after._put_app(app, App("active", deployment.version, "active", has_replica=True))
        return after._put_environment(name, app, "ready")

    def _take_back(self, name: str) -> State:
        """What served before serves again, and what is new is gone."""
        after, deployment = self, self.deployments[name]
        for app, before in deployment.before.items():
            after = after.delete(app)[0] if before is None else after._put_app(app, before)
        for app, phase in deployment.environments.items():
            if phase in ("building", "starting", "ready"):
                after = after._put_environment(name, app, "rolled_back")
        return after._end_deployment(name, FAILED)

    def _end_deployment(self, name: str, phase: str) -> State:
        _check_move(DEPLOYMENT_MOVES, self.deployments[name].phase, phase)
        return replace(self, deployments={**self.deployments, name: self.deployments[name]._replace(phase=phase)})

    def _put_environment(self, name: str, app: str, phase: str) -> State:
        deployment = self.deployments[name]
        _check_move(ENVIRONMENT_MOVES, deployment.environments[app], phase)
        moved = deployment._replace(environments={**deployment.environments, app: phase})
        return replace(self, deployments={**self.deployments, name: moved})

    def _app(self, name: str) -> App:
        if name not in self.apps:
            raise Refused("NotFound")
        return self.apps[name]

    def _put_app(self, name: str, app: App) -> State:
        _check_move(APP_MOVES, self.apps[name].status if name in self.apps else None, app.status)
        return replace(self, apps={**self.apps, name: app})


def _check_move(moves: Mapping[str, set[str]], old: str | None, new: str) -> None:
    assert old in (None, new) or new in moves.get(old or "", ()), f"nothing goes from {old} to {new}"


def promises(before: State, after: State) -> None:
    """What has ended does not change; attempts only grow; below what has ended all has; keys keep their meaning."""
    for id, old in before.actions.items():
        new = after.actions[id]
        assert not old.over or new == old, f"{id} was {old.phase} and is {new}"
        assert new.attempt >= old.attempt, f"{id} went back to attempt {new.attempt}"
    assert before.keys.items() <= after.keys.items(), "a key has lost its meaning"
    for action in after.actions.values():
        caller = after.actions[action.id[0], action.id[1][0]] if action.id[1] else None
        assert caller is None or not caller.over or action.over, f"{action.id} goes on, and its caller is over"
        assert (action.worker is not None) == (action.phase == RUNNING), f"{action} and its worker"
        assert action.waits is None or action.phase == QUEUED, f"{action.id} is {action.phase} and waits"

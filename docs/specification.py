"""The specification of the control plane, as a program: state × operation → state × answer.

This is the first chapter of the documentation, and it runs: `tests/simulation` gives the same random operations to a
`State` and to the real control plane, and compares every answer and the whole state after each of them.

A *run* is a tree of *actions*. An action is tried in *attempts*; one *worker* has the attempt that runs. An action may
*call* a task, which starts a child action or finds it. An *app* has one version that serves and, unless it sleeps, a
replica. A *deployment* brings new versions of apps: all of them, or none.

Every public method of `State` is an operation. It gives the next state and the answer, and raises Refused where the
answer is an error; nothing has changed then. There is no clock, no chance and no I/O in it.

    state, answer = state.create("n", None, "add", 1)

Left open is only the order in which queued actions begin: `due` says which must. `promises` says what holds for each
step, whatever the operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

# ------------------------------------------------------- the states; docs/states.md says what makes each move

QUEUED, RUNNING = "queued", "running"
SUCCEEDED, FAILED, ABORTED, TIMED_OUT = "succeeded", "failed", "aborted", "timed_out"
OVER = frozenset({SUCCEEDED, FAILED, ABORTED, TIMED_OUT})

ACTION_MOVES = {
    QUEUED: {"initializing", RUNNING, SUCCEEDED, FAILED, ABORTED, TIMED_OUT},  # succeeded: its result was in the cache
    "initializing": {QUEUED, RUNNING, FAILED, ABORTED, TIMED_OUT},  # queued, and a process is being started for it
    RUNNING: {QUEUED, SUCCEEDED, FAILED, ABORTED, TIMED_OUT},
}
APP_MOVES = {
    "deploying": {"active", "sleeping", "stopped", "failed"},
    "active": {"deploying", "sleeping", "stopped", "failed"},
    "sleeping": {"active", "deploying", "stopped", "failed"},
    "stopped": {"active", "deploying", "sleeping", "failed"},
    "failed": {"active", "deploying", "sleeping", "stopped"},
}
DEPLOYMENT_MOVES = {RUNNING: {SUCCEEDED, FAILED}}
ENVIRONMENT_MOVES = {
    "waiting": {"building", "starting", "ready", "unchanged", FAILED},
    "building": {"waiting", FAILED, "rolled_back"},  # its image is being made: waiting, as far as this text goes
    "starting": {"ready", FAILED, "rolled_back"},
    "ready": {"rolled_back"},
}

SYSTEM_RETRIES = 3
"""Attempts that an action gets besides its own retries when its workers are lost."""

LEASE = 60.0
"""A worker that says nothing is lost after so many seconds: between three quarters and twice of that."""

LIMITS = {"MaxRuntimeExceededError": True, "MaxQueuedTimeExceededError": False, "DeadlineExceededError": False}
"""What an attempt ends with whose time is over → whether another one may follow."""


class Task(NamedTuple):
    """What is declared of a task. Times are seconds; `pause` comes before each attempt that follows a failure."""

    retries: int = 0
    pause: float = 0
    max_runtime: float | None = None
    max_queued_time: float | None = None
    deadline: float | None = None


class Error(NamedTuple):
    code: str
    system: bool = False
    """A worker was lost; else the function failed."""
    retryable: bool = True


STOPPED = Error("ActionAbortedError", retryable=False)
LOST = Error("WorkerLostError", system=True)

Id = tuple[str, tuple[Any, ...]]
"""A run's name, and a path: () for its root, else the call (caller's path, generation, task, x, sequence)."""


@dataclass(frozen=True)
class Action:
    id: Id
    task: str
    x: int
    """Its inputs."""
    created: float
    ready: float
    """When the attempt may begin."""
    phase: str = QUEUED
    attempt: int = 1
    user: int = 0
    """Failures of the function so far."""
    system: int = 0
    """Losses so far that count."""
    outcome: Any = None
    """The value of one that succeeded, the Error of one that ended otherwise."""
    began: float = 0
    worker: str | None = None

    @property
    def over(self) -> bool:
        return self.phase in OVER

    def is_below(self, above: Id) -> bool:
        run, path = self.id
        while run == above[0] and path:
            path = path[0]
            if path == above[1]:
                return True
        return False


class App(NamedTuple):
    status: str
    version: str | None = None
    """The one that serves; None as long as none was ever ready."""
    wanted: str = "active"
    has_replica: bool = False


class Deployment(NamedTuple):
    version: str
    phase: str
    environments: Mapping[str, str]
    """Environment → phase; each of them is an app here."""
    before: Mapping[str, App | None] = {}
    """How the apps were that it has touched; None: there was none."""


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
    keys: Mapping[str, str] = field(default_factory=dict)
    """Idempotency key → run."""
    actions: Mapping[Id, Action] = field(default_factory=dict)
    calls: Mapping[tuple[str, int], Id] = field(default_factory=dict)
    """Calls that have no answer yet: (worker, the number it gave the call) → the child."""
    silent: Mapping[str, float] = field(default_factory=dict)
    """Workers that say nothing any more → since when."""
    begun: frozenset[tuple[Id, int]] = frozenset()
    """Attempts that ever began."""
    told: tuple[Told, ...] = ()
    """What workers were told of their calls."""
    apps: Mapping[str, App] = field(default_factory=dict)
    deployments: Mapping[str, Deployment] = field(default_factory=dict)

    # ---------------------------------------------------------------------------------------- what clients ask for

    def create(self, name: str | None, key: str | None, task: str, x: int, fresh: str = "") -> tuple[State, Any]:
        """Start a run, or find it: a key stands for one call, for the run that it started or found by its name.

        `fresh` is the name of a run that is given none.
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
        after = self if found else self._put(Action((run, ()), task, x, created=self.now, ready=self.now))
        after = replace(after, keys={**self.keys, key: run}) if key else after
        return after, ("found" if found else "created", run)

    def get(self, run: str) -> tuple[State, Any]:
        """A run is shown as its root is: phase, attempt and, once it is over, outcome."""
        root = self._action((run, ()))
        return self, (root.phase, root.attempt, root.outcome)

    def abort(self, run: str) -> tuple[State, Any]:
        """A run that is over stays as it is."""
        return self.abort_action((run, ()))[0].get(run)

    def abort_action(self, id: Id) -> tuple[State, Any]:
        action = self._action(id)
        after = self if action.over else self._end(action, ABORTED, STOPPED)
        return after, after.actions[id].phase

    # ---------------------------------------------------------------------------------------- what workers say

    def due(self) -> set[tuple[Id, int]]:
        """The attempts that must begin, given enough slots."""
        return {(a.id, a.attempt) for a in self.actions.values() if a.phase == QUEUED and a.ready <= self.now}

    def begin(self, worker: str, id: Id, attempt: int) -> tuple[State, Any]:
        assert (id, attempt) in self.due(), f"{worker} begins {id}, attempt {attempt}, which is not due"
        assert (id, attempt) not in self.begun, f"{worker} begins {id}, attempt {attempt}, which had begun"
        action = replace(self.actions[id], phase=RUNNING, worker=worker, began=self.now)
        return replace(self._put(action), begun=self.begun | {(id, attempt)}), None

    def finish(self, worker: str, id: Id, attempt: int, value: Any, error: Error | None = None) -> tuple[State, Any]:
        action = self._its(worker, id, attempt)
        if action is None:
            return self, "fenced"
        return (self._end(action, SUCCEEDED, value) if error is None else self._failed(action, error)), "taken"

    def call(self, worker: str, id: Id, attempt: int, key: int, task: str, x: int, sequence: int) -> tuple[State, Any]:
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
        after = self._put(Action(called, task, x, self.now, self.now)) if child is None else self
        return replace(after, calls={**self.calls, (worker, key): called})._answer(), called

    def cancel(self, worker: str, id: Id, attempt: int, key: int) -> tuple[State, Any]:
        """The caller does not wait any more. A child for which nobody waits is aborted."""
        after = replace(self, told=(*self.told, Told(worker, key, ABORTED)))
        child = self.calls.get((worker, key))
        if child is None or self._its(worker, id, attempt) is None:
            return after, None
        after = replace(after, calls={call: id for call, id in self.calls.items() if call != (worker, key)})
        return after if child in after.calls.values() else after.abort_action(child)[0], None

    # ---------------------------------------------------------------------------------------- what happens to them

    def lose(self, worker: str, by_itself: bool) -> tuple[State, Any]:
        """A worker's process has ended: by itself with an exit code, or by a signal."""
        return self._lose(worker, Error("ProcessExited") if by_itself else LOST), None

    def fall_silent(self, worker: str) -> tuple[State, Any]:
        return replace(self, silent={**self.silent, worker: self.now}), None

    def lease_over(self, worker: str) -> tuple[State, Any]:
        assert LEASE * 0.75 <= self.now - self.silent[worker] <= LEASE * 2, f"{worker} is not lost at its time"
        return self._lose(worker, LOST), None

    def agent_dies(self) -> tuple[State, Any]:
        """All workers and replicas are gone. That costs no attempt, and an app that had a replica gets another."""
        after = self
        for worker in sorted({a.worker for a in self.actions.values() if a.worker}):
            after = after._lose(worker, LOST, counted=False)
        return after, None

    def crash(self, lost: tuple[str, ...]) -> tuple[State, Any]:
        """The control plane ends, and another one takes over: a deployment that was under way is taken back.

        `lost` are the workers and apps whose processes ended while no control plane was there; that costs no attempt.
        """
        after = self
        for name in lost:
            after = after._lose(name, LOST, counted=False)
            if (app := after.apps.get(name)) is not None and app.has_replica:
                after = after._put_app(name, app._replace(status="sleeping", has_replica=False))
        for name in [name for name, deployment in self.deployments.items() if deployment.phase == RUNNING]:
            after = after._take_back(name)
        return after, None

    def tick(self, seconds: float) -> tuple[State, Any]:
        """Time passes. Who drives this takes care that no two limits strike within one tick."""
        after = replace(self, now=self.now + seconds)
        for id in self.actions:
            limit = after.next_limit(after.actions[id])
            if limit is not None and limit[0] <= after.now + 1e-9:
                after = after._failed(after.actions[id], Error(limit[1], retryable=LIMITS[limit[1]]))
        assert all(after.now - since <= LEASE * 2 for since in after.silent.values()), "a silent worker is not lost"
        return after, None

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
        return self._let_go(action)._put(after)

    def _end(self, action: Action, phase: str, outcome: Any) -> State:
        """The action has ended, and whatever below it has not is aborted. Those who called one of them are told."""
        below = [each for each in self.actions.values() if each.is_below(action.id) and not each.over]
        after = self._let_go(action)._put(replace(action, phase=phase, outcome=outcome, worker=None))
        for each in below:
            after = after._let_go(each)._put(replace(each, phase=ABORTED, outcome=STOPPED, worker=None))
        return after._answer()

    def _answer(self) -> State:
        """The calls of what is over are answered."""
        answered = {call: self.actions[id] for call, id in self.calls.items() if self.actions[id].over}
        told = (
            Told(*call, a.phase, a.outcome if a.phase == SUCCEEDED else a.outcome.code) for call, a in answered.items()
        )
        calls = {call: id for call, id in self.calls.items() if call not in answered}
        return replace(self, calls=calls, told=(*self.told, *told))

    def _let_go(self, action: Action) -> State:
        """The attempt is over, and its worker with it: its calls get no answer, and its silence ends nothing more."""
        calls = {call: id for call, id in self.calls.items() if call[0] != action.worker}
        return replace(self, calls=calls, silent={w: since for w, since in self.silent.items() if w != action.worker})

    def _lose(self, worker: str, error: Error, counted: bool = True) -> State:
        after = self
        for action in [a for a in self.actions.values() if a.worker == worker]:
            after = after._failed(after.actions[action.id], error, counted)
        return after

    def _put(self, action: Action) -> State:
        before = self.actions.get(action.id)
        _check_move(ACTION_MOVES, before.phase if before else None, action.phase)
        return replace(self, actions={**self.actions, action.id: action})

    # ---------------------------------------------------------------------------------------- apps and deployments

    def deploy(
        self, name: str, version: str, levels: tuple[tuple[str, ...], ...], broken: str = ""
    ) -> tuple[State, Any]:
        """Level by level: start the new version beside the old one, and switch when it answers. `broken` never does."""
        waiting = {app: "waiting" for level in levels for app in level}
        after = replace(self, deployments={**self.deployments, name: Deployment(version, RUNNING, waiting)})
        for level in levels:
            for app in level:
                after = after._deploy_app(name, app, answers=app != broken)
            if broken in level:
                return after, RUNNING  # until its replica dies (`break_off`), or the control plane (`crash`)
        return after._end_deployment(name, SUCCEEDED), SUCCEEDED

    def break_off(self, name: str, app: str) -> tuple[State, Any]:
        """The replica of a deployment's new version has ended before it ever answered."""
        return self._put_environment(name, app, FAILED)._take_back(name), None

    def wake(self, name: str) -> tuple[State, Any]:
        """A request came. An app that is stopped does not start of it."""
        if self._app(name).wanted != "active":
            raise Refused("DeploymentError")
        return self.activate(name)

    def activate(self, name: str) -> tuple[State, Any]:
        return self._put_app(name, App("active", self._app(name).version, "active", has_replica=True)), "active"

    def doze(self, name: str) -> tuple[State, Any]:
        """No request came for the app's `scaledown_after`, and nothing is open to its replica."""
        app = self._app(name)
        return (
            self._put_app(name, app._replace(status="sleeping", has_replica=False)) if app.has_replica else self
        ), None

    def deactivate(self, name: str) -> tuple[State, Any]:
        return self._put_app(name, App("stopped", self._app(name).version, "stopped")), "stopped"

    def delete(self, name: str) -> tuple[State, Any]:
        self._app(name)
        return replace(self, apps={other: app for other, app in self.apps.items() if other != name}), None

    def replica_dies(self, name: str) -> tuple[State, Any]:
        """Another one is started: at once, or after a pause of 30 seconds at most where they keep dying young."""
        self._app(name)
        return self, None

    def _deploy_app(self, name: str, app: str, answers: bool) -> State:
        old, deployment = self.apps.get(app), self.deployments[name]
        if old is not None and old.version == deployment.version and old.wanted == "active":
            return self.activate(app)[0]._put_environment(name, app, "unchanged")
        deployment = deployment._replace(before={**deployment.before, app: old})
        after = replace(self, deployments={**self.deployments, name: deployment})._put_environment(
            name, app, "starting"
        )
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
            after = (
                after._put_environment(name, app, "rolled_back")
                if phase in ("building", "starting", "ready")
                else after
            )
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

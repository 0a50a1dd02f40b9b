"""The states of apps, replicas and deployments, and the tables of their transitions; those of actions are in
`flyte.phases`, which local mode shares. Pure: no I/O, no clock, no randomness.

Every transition goes through a `move_…` function here, which refuses a transition that is in no row. So the tables
*are* the state machines; `docs/states.md` is generated from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flyte.phases import ForbiddenMove
from flyte.wire import AppId, AppStatus, DeploymentPhase

Pairs = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Row:
    """An allowed transition from `old` to `new`; `why` is its cause."""

    old: str
    new: str
    why: str


def _pairs(rows: Sequence[Row]) -> Pairs:
    return frozenset((str(row.old), str(row.new)) for row in rows)


def _check(what: str, allowed: Pairs, old: str, new: str) -> None:
    if old != new and (old, new) not in allowed:
        raise ForbiddenMove(f"{what} does not go from {old} to {new}")


# ---------------------------------------------------------------------------------------------------------------- apps

A = AppStatus

APP_TRANSITIONS: tuple[Row, ...] = (
    Row(A.DEPLOYING, A.ACTIVE, "a replica is ready and the gateway was switched to it"),
    Row(A.DEPLOYING, A.SLEEPING, "the deployment failed or was cut off, or the old version lost its last replica"),
    Row(A.DEPLOYING, A.STOPPED, "it was deactivated, or the deployment of a stopped app failed"),
    Row(A.DEPLOYING, A.FAILED, "no version of it ever became ready, or a request could not wake the old one"),
    Row(A.ACTIVE, A.DEPLOYING, "a new version is being started; the old one goes on serving"),
    Row(A.ACTIVE, A.SLEEPING, "no request came for long, or its last replica is gone; the next one wakes it"),
    Row(A.ACTIVE, A.STOPPED, "it was deactivated, or a failed deployment of a stopped app was taken back"),
    Row(A.ACTIVE, A.FAILED, "its replicas die as soon as they start"),
    Row(A.SLEEPING, A.ACTIVE, "a request or an activation started a replica, or one went on while nobody looked"),
    Row(A.SLEEPING, A.DEPLOYING, "a new version is being started"),
    Row(A.SLEEPING, A.STOPPED, "it was deactivated, or a failed deployment of a stopped app was taken back"),
    Row(A.SLEEPING, A.FAILED, "no replica could be started"),
    Row(A.STOPPED, A.ACTIVE, "the deployment that was under way when it was deactivated is through"),
    Row(A.STOPPED, A.DEPLOYING, "a new version is being started"),
    Row(A.STOPPED, A.SLEEPING, "it was activated; the next request starts a replica, if the activation does not"),
    Row(A.STOPPED, A.FAILED, "it was activated, and no version of it ever became ready"),
    Row(A.FAILED, A.ACTIVE, "a replica became ready after all"),
    Row(A.FAILED, A.DEPLOYING, "a new version is being started"),
    Row(A.FAILED, A.SLEEPING, "a deployment failed, and the old version is kept for the next request"),
    Row(A.FAILED, A.STOPPED, "it was deactivated"),
)

_APP_PAIRS = _pairs(APP_TRANSITIONS)


def move_app(old: AppStatus, new: AppStatus) -> AppStatus:
    """Returns `new` if an app may go from `old` to `new`, or the two are equal. Raises ForbiddenMove otherwise."""
    _check("an app", _APP_PAIRS, old, new)
    return new


# ------------------------------------------------------------------------------------------------------------ replicas

ReplicaPhase = Literal["starting", "ready", "draining", "failed", "stopped"]

REPLICA_TRANSITIONS: tuple[Row, ...] = (
    Row("starting", "ready", "it answers"),
    Row("starting", "draining", "it is not needed any more"),
    Row("starting", "failed", "its process ended, or it did not answer in time"),
    Row("ready", "draining", "a new version took its place, the app was deactivated, or no request came for long"),
    Row("ready", "failed", "its process ended without having been told to"),
    Row("draining", "ready", "a request came before the app was asleep"),
    Row("draining", "stopped", "its process has ended"),
)

_REPLICA_PAIRS = _pairs(REPLICA_TRANSITIONS)


def move_replica(old: ReplicaPhase, new: ReplicaPhase) -> ReplicaPhase:
    """Returns `new` if a replica may go from `old` to `new`, or the two are equal. Raises ForbiddenMove otherwise."""
    _check("a replica", _REPLICA_PAIRS, old, new)
    return new


# --------------------------------------------------------------------------------------------------------- deployments

D = DeploymentPhase

DEPLOYMENT_TRANSITIONS: tuple[Row, ...] = (
    Row(D.RUNNING, D.SUCCEEDED, "every environment is ready or unchanged"),
    Row(D.RUNNING, D.FAILED, "an environment failed, or the platform was restarted; everything is as it was before"),
)

ENVIRONMENT_TRANSITIONS: tuple[Row, ...] = (
    Row("waiting", "building", "the environment for its image is being made"),
    Row("waiting", "starting", "the new version of its app is being started"),
    Row("waiting", "ready", "its tasks are registered and current; or it holds nothing to deploy"),
    Row("waiting", "unchanged", "what is deployed is current already, and its app answers"),
    Row("waiting", "failed", "it cannot be deployed as it is declared"),
    Row("building", "waiting", "its environment is there"),
    Row("building", "failed", "its environment cannot be made"),
    Row("building", "rolled_back", "another environment failed, or the platform was restarted"),
    Row("starting", "ready", "every replica answers, and the gateway was switched to them"),
    Row("starting", "failed", "a replica did not start"),
    Row("starting", "rolled_back", "another environment failed, or the platform was restarted"),
    Row("ready", "rolled_back", "another environment failed, or the platform was restarted"),
)

_DEPLOYMENT_PAIRS = _pairs(DEPLOYMENT_TRANSITIONS)
_ENVIRONMENT_PAIRS = _pairs(ENVIRONMENT_TRANSITIONS)


def check_deployment(old: DeploymentPhase, new: DeploymentPhase) -> None:
    """Raise ForbiddenMove unless a deployment may go from `old` to `new`, or the two are equal."""
    _check("a deployment", _DEPLOYMENT_PAIRS, old, new)


def check_environment(old: str, new: str) -> None:
    """Raise ForbiddenMove unless an environment of a deployment may go from `old` to `new`, or the two are equal."""
    _check("an environment of a deployment", _ENVIRONMENT_PAIRS, old, new)


# ------------------------------------------------------------------------------------------------- subjects of events


def subject_of_action(run: str, action: str) -> str:
    return f"run/{run}/{action}"


def subject_of_app(app: AppId) -> str:
    return f"app/{app}"


def subject_of_secret(project: str, domain: str, name: str) -> str:
    return f"secret/{project}/{domain}/{name}"


def subject_of_key(id: str) -> str:
    return f"key/{id}"


def subject_of_project(id: str) -> str:
    return f"project/{id}"


def subject_of_trigger(key: tuple[str, str, str, str]) -> str:
    """`key`: project, domain, task and name."""
    return f"trigger/{'/'.join(key)}"


def subject_of_deployment(deployment: str) -> str:
    return f"deployment/{deployment}"

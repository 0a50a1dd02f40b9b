"""What `flyte.deploy` gives back, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flyte import wire
from flyte._declare.environment import Environment
from flyte._declare.task import TaskEnvironment

Row = list[tuple[str, str]]


class Table(list[Row]):
    """Rows of (name, value) pairs; printed, they are columns."""

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for row in self for name, _ in row))
        lines = [names, *([dict(row).get(name, "") for name in names] for row in self)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
        return "\n".join(_padded(line, widths) for line in lines) if self else "(nothing)"


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


@dataclass(frozen=True, slots=True)
class DeployedTask:
    name: str
    version: str
    short_name: str = ""

    def summary_repr(self) -> str:
        return f"{self.name} ({self.version})"

    def table_repr(self) -> Row:
        return [("type", "task"), ("name", self.name), ("version", self.version)]


@dataclass(frozen=True, slots=True)
class DeployedTaskEnvironment:
    env: TaskEnvironment
    deployed_entities: tuple[DeployedTask, ...]
    version: str
    state: wire.DeployedEnvironment | None = None
    """How the deployment left it; None after a dry run."""

    @property
    def name(self) -> str:
        return self.env.name

    def get_name(self) -> str:
        return self.env.name

    def summary_repr(self) -> str:
        tasks = ", ".join(task.summary_repr() for task in self.deployed_entities)
        return f"{self.env.name}: tasks [{tasks}]"

    def table_repr(self) -> Table:
        return Table(task.table_repr() for task in self.deployed_entities)

    def env_repr(self) -> Row:
        return [("environment", self.env.name), ("image", image_of(self.env)), ("url", "")]


@dataclass(frozen=True, slots=True)
class DeployedAppEnvironment:
    env: Environment
    spec: wire.AppSpec
    version: str
    state: wire.DeployedEnvironment | None = None

    @property
    def name(self) -> str:
        return self.env.name

    @property
    def url(self) -> str:
        """Where the app answers; empty after a dry run."""
        return self.state.url if self.state else ""

    def get_name(self) -> str:
        return self.env.name

    def summary_repr(self) -> str:
        return f"{self.env.name}: app ({self.version})" + (f" at {self.url}" if self.url else "")

    def table_repr(self) -> Table:
        row = [("type", "app"), ("name", self.env.name), ("version", self.version)]
        return Table([[*row, ("url", self.url)] if self.url else row])

    def env_repr(self) -> Row:
        return [("environment", self.env.name), ("image", image_of(self.env)), ("url", self.url)]


DeployedEnvironment = DeployedTaskEnvironment | DeployedAppEnvironment


@dataclass(frozen=True, slots=True, repr=False)
class Deployment:
    """One environment that `deploy` was given, with everything it depends on."""

    envs: dict[str, DeployedEnvironment]
    """By name, dependencies first."""
    version: str
    warnings: tuple[str, ...] = ()
    record: wire.Deployment | None = field(default=None, repr=False)
    """What the platform says of the deployment; None after a dry run."""

    def summary_repr(self) -> str:
        """One line."""
        return f"Deployment(version={self.version}, {'; '.join(env.summary_repr() for env in self.envs.values())})"

    def table_repr(self) -> Table:
        """A row for each task and each app."""
        return Table(row for env in self.envs.values() for row in env.table_repr())

    def env_repr(self) -> Table:
        """A row for each environment."""
        return Table(env.env_repr() for env in self.envs.values())

    def __repr__(self) -> str:  # programs print what `deploy` returns, which is a list of these
        return self.summary_repr()

    def __str__(self) -> str:
        return self.summary_repr()


def image_of(env: Environment) -> str:
    return env.image if isinstance(env.image, str) else (env.image.uri if env.image is not None else "")


def described(
    environments: Iterable[Environment], request: wire.DeployRequest, record: wire.Deployment | None
) -> dict[str, DeployedEnvironment]:
    """Each environment with what of it was deployed."""
    states = {state.name: state for state in record.environments} if record else {}
    apps = {spec.name: spec for spec in request.apps}
    found: dict[str, DeployedEnvironment] = {}
    for env in environments:
        state = states.get(env.name)
        if isinstance(env, TaskEnvironment):
            names = [task.name for task in env.tasks.values()]
            tasks = [DeployedTask(s.name, request.version, s.short_name) for s in request.tasks if s.name in names]
            found[env.name] = DeployedTaskEnvironment(env, tuple(tasks), request.version, state)
        elif env.name in apps:
            found[env.name] = DeployedAppEnvironment(env, apps[env.name], request.version, state)
    return found

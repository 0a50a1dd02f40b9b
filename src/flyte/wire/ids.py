"""What things are called where one name is not enough: by a project and domain, by a run and an action."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from flyte.wire.specs import DEFAULT_DOMAIN, DEFAULT_PROJECT


class Scope(NamedTuple):
    """Where tasks, runs, apps and secrets have their names: a domain of a project."""

    project: str = DEFAULT_PROJECT
    domain: str = DEFAULT_DOMAIN

    def app(self, name: str) -> AppId:
        """The app of that name here."""
        return AppId(self.project, self.domain, name)

    def __str__(self) -> str:
        return f"{self.project}/{self.domain}"


class AppId(NamedTuple):
    """An app: its name, in a domain of a project. As text, `project/domain/name`."""

    project: str
    domain: str
    name: str

    @classmethod
    def read(cls, text: str) -> AppId:
        """The app that `project/domain/name` stands for."""
        project, domain, name = text.split("/", 2)
        return cls(project, domain, name)

    @property
    def scope(self) -> Scope:
        return Scope(self.project, self.domain)

    def __str__(self) -> str:
        return f"{self.project}/{self.domain}/{self.name}"


class OfAttempt(Protocol):
    """What belongs to one attempt of an action, as most frames of a worker do."""

    @property
    def run(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def attempt(self) -> int: ...


class AttemptRef(NamedTuple):
    """One attempt of an action of a run; attempts count from 1."""

    run: str
    action: str
    attempt: int

    @classmethod
    def of(cls, thing: OfAttempt) -> AttemptRef:
        """The attempt that a frame, or something else, belongs to."""
        return cls(thing.run, thing.action, thing.attempt)

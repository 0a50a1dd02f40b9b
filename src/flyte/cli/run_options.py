"""The options of `flyte run`, as given before FILE and after TASK together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command's own flags, those before FILE and those after TASK merged."""

    project: str | None = None
    domain: str | None = None
    local: bool = False
    version: str | None = None
    copy_style: Any = "loaded_modules"
    root_dir: str | None = None
    name: str | None = None
    follow: bool = True
    env: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    overwrite_cache: bool = False
    disable_run_cache: bool = False
    max_action_concurrency: int | None = None
    strict: bool = False
    output: str | None = None

    @classmethod
    def of(cls, ctx: click.Context) -> RunOptions:
        """What was given on the way to here. What stands further right counts; what may be repeated is added up."""
        given: dict[str, Any] = {}
        for level in _levels(ctx):
            for name, value in _given(level).items():
                given[name] = given.get(name, ()) + value if isinstance(value, tuple) else value
        return cls(**given)


def _given(level: click.Context) -> dict[str, Any]:
    """Our own flags that stand at one level of the command line."""
    names = {field.name for field in fields(RunOptions)} & set(level.params)
    default = click.core.ParameterSource.DEFAULT
    return {name: level.params[name] for name in names if level.get_parameter_source(name) is not default}


def _levels(ctx: click.Context) -> list[click.Context]:
    """The contexts from the verb down to this one."""
    levels: list[click.Context] = []
    level: click.Context | None = ctx
    while level is not None and level.parent is not None:
        levels.insert(0, level)
        level = level.parent
    return levels

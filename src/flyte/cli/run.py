"""`flyte run FILE TASK …` and `flyte run deployed-task NAME …`: start a run, show it, print its result.

The inputs' flags are made when the task is known: from the file's own task, or from the interface that the platform has
of a deployed one. Our own flags may stand before FILE, or after TASK where no input has the same name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from flyte.cli import program
from flyte.cli.flags import Flag, inputs_from
from flyte.cli.options import formatted, scoped, shipped

if TYPE_CHECKING:
    from flyte.wire import InputSpec

DEPLOYED = "deployed-task"

EXAMPLES = """\b
Examples:
  flyte run hello.py                                  list the tasks of a file
  flyte run hello.py greet --help                     show a task's inputs
  flyte run hello.py greet --name World
  flyte run --local hello.py greet --name World       in this process, without a platform
  flyte run deployed-task hello.greet --name World    a task that was deployed before
  result=$(flyte run hello.py greet --name World)     the result is JSON on stdout, all else on stderr
"""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Our own flags, as given before FILE and after TASK together."""

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
    max_action_concurrency: int | None = None
    output: str | None = None

    @classmethod
    def of(cls, ctx: click.Context) -> RunOptions:
        """What was given on the way to here; what stands further right counts."""
        given: dict[str, Any] = {}
        names = {field.name for field in fields(cls)}
        for level in _levels(ctx):
            for name in names & set(level.params):
                if level.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
                    given[name] = level.params[name]
        return cls(**given)


def _levels(ctx: click.Context) -> list[click.Context]:
    """The contexts from the verb down to this one."""
    levels: list[click.Context] = []
    level: click.Context | None = ctx
    while level is not None and level.parent is not None:
        levels.insert(0, level)
        level = level.parent
    return levels


def _options() -> list[click.Parameter]:
    """New instances of our own flags, for one command."""

    @click.option("--local", is_flag=True, help="Run in this process, without a platform.")
    @click.option(
        "--name", metavar="TEXT", help="Name of the run; one that exists with the same inputs is shown again."
    )
    @click.option(
        "-f/-F", "--follow/--no-follow", default=True, help="Wait for the end and print the result.  [default]"
    )
    @click.option(
        "-e", "--env", multiple=True, metavar="KEY=VALUE", help="Environment variable for the run's processes."
    )
    @click.option(
        "--label", multiple=True, metavar="KEY=VALUE", help="Label of the run; `flyte get run` finds it by it."
    )
    @click.option("--overwrite-cache", is_flag=True, help="Run even what is in the cache, and keep the new result.")
    @click.option("--max-action-concurrency", type=click.IntRange(2), help="How many actions may run at once.")
    @shipped
    @scoped
    @formatted
    def holder() -> None:
        """Only there to collect the decorators' flags."""

    params: list[click.Parameter] = list(reversed(holder.__click_params__))  # type: ignore[attr-defined]
    return params


class Files(click.Group):
    """`flyte run`: its sub-commands are the user's files, and `deployed-task`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return []

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name == DEPLOYED:
            return DeployedTasks(
                DEPLOYED, help="Run a task that was deployed before.", subcommand_metavar="NAME[:VERSION] [INPUTS]"
            )
        return TasksOfFile(cmd_name)


class TasksOfFile(click.Group):
    """A file: its sub-commands are its tasks. It is imported when they are asked for."""

    def __init__(self, file: str) -> None:
        super().__init__(file, help=f"Run a task of {file}.", subcommand_metavar="TASK [INPUTS]", no_args_is_help=True)
        self._file = file
        self._loaded: program.Program | None = None

    def _program(self, ctx: click.Context) -> program.Program:
        if self._loaded is None:
            self._loaded = program.load(self._file, RunOptions.of(ctx).root_dir)
        return self._loaded

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._program(ctx).tasks())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        from flyte.cli.execute import run_task

        loaded = self._program(ctx)
        task = loaded.task(cmd_name)
        specs = task.interface.spec().inputs
        return task_command(cmd_name, specs, task.docs, lambda options, inputs: run_task(loaded, task, inputs, options))


class DeployedTasks(click.Group):
    """The tasks that the platform has; which inputs one takes is asked of it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return []

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        from flyte.cli.execute import run_deployed
        from flyte.cli.options import connect

        options = RunOptions.of(ctx)
        if options.local:
            raise click.UsageError("A deployed task runs on its platform; --local is for tasks of a FILE.")
        name, _, version = cmd_name.partition(":")
        client = connect(options.project, options.domain)
        task = asyncio.run(client.get_task(name, version or options.version))
        specs = task.spec.interface.inputs if task.spec else []
        docs = task.spec.docs if task.spec else ""
        return task_command(cmd_name, specs, docs, lambda options, inputs: run_deployed(client, task, inputs, options))


Execute = Callable[[RunOptions, Mapping[str, Any]], int]


def task_command(name: str, specs: Sequence[InputSpec], docs: str, execute: Execute) -> click.Command:
    """The command that runs one task: a flag for each input, then our own where no input has taken the name."""
    flags = [Flag(spec) for spec in specs]
    taken = {word for flag in flags for word in (*flag.opts, *flag.secondary_opts)}
    ours = [option for option in _options() if not taken & {*option.opts, *option.secondary_opts}]
    for option in ours:
        option.hidden = True  # type: ignore[attr-defined]

    @click.pass_context
    def callback(ctx: click.Context, /, **values: Any) -> int:
        inputs = inputs_from(specs, values)
        return execute(RunOptions.of(ctx), inputs)

    epilog = "`flyte run --help` lists the flags that every task has."
    return click.Command(name, params=[*flags, *ours], callback=callback, help=docs or None, epilog=epilog)


run = Files(
    "run",
    params=_options(),
    no_args_is_help=True,
    subcommand_metavar="FILE TASK [INPUTS]",
    epilog=EXAMPLES,
    help="""Run TASK of FILE on the platform, wait for its end, and print its result.

    What the task's environment depends on is deployed first. With Ctrl-C the run goes on; `flyte get run NAME` and
    `flyte abort run NAME` are there for it. Exit code 1 if the run fails, 2 if it cannot be started.
    """,
)

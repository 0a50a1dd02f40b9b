"""`flyte run FILE TASK …` and `flyte run deployed-task NAME …`: start a run, show it, print its result.

The inputs' flags are made when the task is known: from the task in the file, or from the interface of a deployed task.
The command's own flags may be before FILE, or after TASK unless an input has the same name. Some of them select the
task (--version, --project, --domain, --root-dir): those after TASK are read before the task is looked up, and are read
again when it is known, because a flag with the name of an input belongs to the input.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flyte._declare.interface import without_sections
from flyte.cli import program
from flyte.cli.flags import INPUTS, Flag, inputs_from
from flyte.cli.options import formatted, pairs, scoped, shipped
from flyte.cli.run_options import RunOptions
from flyte.cli.verbs import refuse_absent

if TYPE_CHECKING:
    from flyte._client.client import Client
    from flyte.wire import InputSpec, Task

DEPLOYED = "deployed-task"

_DOTTED = re.compile(r"[\w-]+(\.[\w-]+)+(:\S+)?")
"""The full name of a task, with or without a version."""

EXAMPLES = """\b
Examples:
  flyte run hello.py                                  list the tasks of a file
  flyte run hello.py greet --help                     show a task's inputs
  flyte run hello.py greet --name World
  flyte run etl.py load --table sales.csv             a file by its path, for a File, Dir or DataFrame
  flyte run --local hello.py greet --name World       in this process, without a platform
  flyte run hello.greet --name World                  a task that was deployed before
  flyte run deployed-task greet:v1 --name World       the same by its bare name, at a version
  result=$(flyte run hello.py greet --name World)     the result is JSON on stdout, all else on stderr
"""


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
    @click.option("--disable-run-cache", is_flag=True, help="Neither find results in the cache nor put any into it.")
    @click.option(
        "--max-action-concurrency", type=click.IntRange(2), help="How many of the run's actions are at work at a time."
    )
    @shipped
    @scoped
    @formatted
    def holder() -> None:
        """A function without content, which collects the flags of the decorators."""

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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A dotted name that is not a file, such as `hello.greet`, is a deployed task."""
        if not Path(args[0]).exists():
            refuse_absent(ctx, f"run {args[0]}")
            if _DOTTED.fullmatch(args[0]) and not args[0].endswith(".py"):
                args = [DEPLOYED, *args]
        return super().resolve_command(ctx, args)


class TasksOfFile(click.Group):
    """A file: its sub-commands are its tasks. It is imported when they are needed."""

    def __init__(self, file: str) -> None:
        super().__init__(file, help=f"Run a task of {file}.", subcommand_metavar="TASK [INPUTS]", no_args_is_help=True)
        self._file = file
        self._loaded: program.Program | None = None
        self._root: str | None = None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """What decides how the file is imported is read before that, also where it stands behind TASK."""
        options = _options_in(ctx, args[1:], ())
        if not _has_parameter(self._file, "root_dir"):
            self._root = options.root_dir
        if options.local:
            os.environ.update(pairs(options.env, "--env"))
        found = super().resolve_command(ctx, args)
        if self._root is not None and found[1] is not None and _is_input(found[1], "--root-dir"):
            raise click.UsageError(f"{args[0]} has an input root_dir; put our own --root-dir before {self._file}.")
        return found

    def _program(self, ctx: click.Context) -> program.Program:
        if self._loaded is None:
            self._loaded = program.load(self._file, self._root or RunOptions.of(ctx).root_dir)
        return self._loaded

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._program(ctx).tasks())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        from flyte.cli.execute import run_task

        loaded = self._program(ctx)
        task = loaded.task(cmd_name)
        specs = task.interface.spec().inputs
        return task_command(cmd_name, specs, task.docs, lambda options, inputs: run_task(loaded, task, inputs, options))


def _has_parameter(file: str, name: str) -> bool:
    """Whether some function of the file has a parameter of that name; the file is read, not imported."""
    try:
        tree = ast.parse(Path(file).expanduser().read_bytes())
    except (OSError, SyntaxError, ValueError):  # importing it says what is wrong
        return False
    return any(isinstance(node, ast.arg) and node.arg == name for node in ast.walk(tree))


def _is_input(command: click.Command, word: str) -> bool:
    return any(isinstance(param, Flag) and word in param.opts for param in command.params)


class DeployedTasks(click.Group):
    """The deployed tasks; the platform is asked for the inputs of a task."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return []

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, rest = args[0], args[1:]
        _refuse_for_deployed(RunOptions.of(ctx))
        client, task = _found(ctx, name, rest)
        return name, _deployed_command(name, client, task), rest


Place = tuple[str | None, str | None, str | None]
"""Project, domain and version in which a deployed task is looked up."""


def _found(ctx: click.Context, name: str, rest: Sequence[str]) -> tuple[Client, Task]:
    """The deployed task that the whole command line means. Raises RemoteTaskNotFoundError, and UsageError.

    It is looked up with the flags before the name, and again where those behind it say something else; which words
    behind it are ours depends on the inputs of the task that was found.
    """
    from flyte.errors import RemoteTaskNotFoundError

    places: list[Place] = [_place(RunOptions.of(ctx), name)]
    while True:
        try:
            client, task = _look_up(name, places[-1])
            missing = None
        except RemoteTaskNotFoundError as error:
            task, missing = None, error
        specs = task.spec.interface.inputs if task and task.spec else []
        place = _place(_options_in(ctx, rest, specs), name)
        if place == places[-1]:
            if task is None:
                assert missing is not None
                raise missing
            return client, task
        if place in places:
            raise click.UsageError(
                f"{name} takes other inputs there: put --project, --domain and --version before `{DEPLOYED}`."
            )
        places.append(place)


def _place(options: RunOptions, name: str) -> Place:
    _, _, version = name.partition(":")
    if version and options.version and version != options.version:
        raise click.UsageError(f"{name} names the version {version!r}, and --version {options.version!r}; say one.")
    return options.project, options.domain, version or options.version


def _look_up(name: str, place: Place) -> tuple[Client, Task]:
    from flyte.cli.options import connect

    project, domain, version = place
    client = connect(project, domain)
    return client, asyncio.run(client.get_task(name.partition(":")[0], version))


def _deployed_command(name: str, client: Client, task: Task) -> click.Command:
    specs = task.spec.interface.inputs if task.spec else []

    def execute(options: RunOptions, inputs: Mapping[str, Any]) -> int:
        from flyte.cli.execute import run_deployed

        _refuse_for_deployed(options)
        return run_deployed(client, task, inputs, options)

    return task_command(name, specs, task.spec.docs if task.spec else "", execute)


NOT_FOR_DEPLOYED = {
    "local": "runs on its platform; --local is for tasks of a FILE.",
    "root_dir": "runs the code that it was deployed with; --root-dir is for tasks of a FILE.",
    "copy_style": "runs the code that it was deployed with; --copy-style is for tasks of a FILE.",
}
"""The flags that do not apply to a deployed task, and why."""


def _refuse_for_deployed(options: RunOptions) -> None:
    for flag, reason in NOT_FOR_DEPLOYED.items():
        if getattr(options, flag) != getattr(RunOptions(), flag):
            raise click.UsageError(f"A deployed task {reason}")


def _options_in(ctx: click.Context, words: Sequence[str], specs: Sequence[InputSpec]) -> RunOptions:
    """Our own flags, before FILE and among the words behind TASK; the latter are only looked through.

    What is wrong with a word is said when the task's command reads it.
    """
    reader = task_command("TASK", specs, "", lambda options, inputs: 0)
    lenient = {"ignore_unknown_options": True, "allow_extra_args": True}
    with reader.make_context("TASK", list(words), parent=ctx, resilient_parsing=True, **lenient) as behind:
        return RunOptions.of(behind)


Execute = Callable[[RunOptions, Mapping[str, Any]], int]


def task_command(name: str, specs: Sequence[InputSpec], docs: str, execute: Execute) -> click.Command:
    """The command that runs one task: a flag for each input, then the command's own unless an input has the name."""
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
    return click.Command(
        name, params=[*flags, *ours], callback=callback, help=without_sections(docs) or None, epilog=epilog
    )


run = Files(
    "run",
    params=_options(),
    no_args_is_help=True,
    subcommand_metavar="FILE TASK [INPUTS]",
    epilog=f"{EXAMPLES}\n{INPUTS}",
    help="""Run TASK of FILE on the platform, wait for its end, and print its result.

    What the task's environment depends on is deployed first. With Ctrl-C the run goes on; `flyte get run NAME` and
    `flyte abort run NAME` are there for it. Exit code 1 if the run fails, 2 if it cannot be started.
    """,
)

"""The tree of commands, and the conversion of errors to messages and exit codes.

Each verb has a module of its own, which is imported when the verb is used, so that `flyte --help` stays quick: the
table below has the texts of the help. Exit codes: 0 for success; 1 the run failed; 2 wrong usage, or something does not
exist or is not possible; 130 Ctrl-C.
"""

from __future__ import annotations

import difflib
import importlib
import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from flyte.cli import plugin_commands
from flyte.cli.options import OUTPUT, OUTPUT_FLAGS, Invocation
from flyte.errors import BaseRuntimeError
from flyte.official import refuse_official

RUN_FAILED = 1
NOT_POSSIBLE = 2
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the help: the command's module, its heading, and one line on what it does."""

    target: str
    heading: str
    summary: str


VERBS: dict[str, Verb] = {
    "up": Verb("platform:up", "The platform on this machine", "Start it; returns when it answers."),
    "down": Verb("platform:down", "The platform on this machine", "Stop it, and everything that runs on it."),
    "status": Verb("platform:status", "The platform on this machine", "Say whether it runs, and where."),
    "console": Verb("platform:console", "The platform on this machine", "Open the console in a browser, signed in."),
    "run": Verb("run:run", "Start things", "Run a task of a file, or a deployed one."),
    "serve": Verb("serve:serve", "Start things", "Deploy an app and say where it answers."),
    "deploy": Verb("deploy:deploy", "Start things", "Deploy the environments of a file."),
    "build": Verb("build:build", "Start things", "Have the environments of a file's images made, and deploy nothing."),
    "get": Verb(
        "get:get",
        "Look at things",
        "Runs, actions, tasks, apps, logs, inputs and outputs, triggers, the cache, secrets, projects.",
    ),
    "images": Verb("images:images", "Look at things", "The environments that images became; remove unused ones."),
    "whoami": Verb("get:whoami", "Look at things", "Say as whom the platform knows you."),
    "abort": Verb("abort:abort", "Change things", "Stop a run or an action."),
    "create": Verb("create:create", "Change things", "A secret, an API key, a project, a trigger, a config file."),
    "update": Verb("update:update", "Change things", "Start or stop an app, activate or pause a trigger."),
    "prune": Verb("prune:prune", "Change things", "Remove old runs, and files that nothing refers to."),
    "delete": Verb(
        "delete:delete", "Change things", "An app, a secret, an API key, a trigger, results from the cache."
    ),
}

EPILOG = """\b
Examples:
  flyte run hello.py greet --name World     run a task; its flags come from its signature
  flyte deploy hello.py                     deploy everything that the file declares
  flyte get run                             list the runs, newest first
  flyte get logs RUN -f                     follow what a run prints
"""


class Program(click.Group):
    """The group of all verbs; imports a verb's module when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS, *plugin_commands.top_level(VERBS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            point = plugin_commands.top_level(VERBS).get(cmd_name)
            return None if point is None else plugin_commands.load(point)
        module, _, name = verb.target.partition(":")
        command = getattr(importlib.import_module(f"flyte.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            _refuse(ctx, args)
            near = difflib.get_close_matches(args[0], VERBS, n=1, cutoff=0.65)
            hint = f"did you mean `flyte {near[0]}`?" if near else "`flyte --help` lists the commands."
            ctx.fail(f"There is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading in dict.fromkeys(verb.heading for verb in VERBS.values()):
            with formatter.section(heading):
                formatter.write_dl([(name, verb.summary) for name, verb in VERBS.items() if verb.heading == heading])
        if added := plugin_commands.top_level(VERBS):
            with formatter.section("Of plugins"):
                formatter.write_dl([(name, plugin_commands.summary(point)) for name, point in added.items()])


def _refuse(ctx: click.Context, args: list[str]) -> None:
    """Raise UsageError for an unknown command, with advice if it is a command of Flyte's, or a task."""
    from flyte.cli.verbs import refuse_absent

    refuse_absent(ctx, args[0])


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from flyte._version import __version__

        click.echo(f"flyte (tarmac) {__version__.partition('+tarmac.')[2]}")
        ctx.exit()


@click.command("flyte", cls=Program, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it and exit."
)
@click.option("-c", "--config", metavar="FILE", help="Config file; without it the usual places are searched.")
@click.option("--endpoint", metavar="URL", help="Address of the platform, instead of the config's or this machine's.")
@click.option(*OUTPUT_FLAGS, help="How listings and results are shown, as with a verb's own --output.", **OUTPUT)  # type: ignore[arg-type]
@click.option("-v", "--verbose", count=True, help="Show more; also where in this program an unexpected error arose.")
@click.option("--no-progress", is_flag=True, help="No live display on a terminal, plain lines instead.")
@click.pass_context
def program(
    ctx: click.Context, config: str | None, endpoint: str | None, output: str | None, verbose: int, no_progress: bool
) -> None:
    """Run Flyte tasks and apps, on this machine or on a platform elsewhere.

    Without a config file, the platform of this machine is used, and started where a command needs it.
    """
    refuse_official()
    if endpoint:
        os.environ["FLYTE_ENDPOINT"] = endpoint
    ctx.obj = Invocation(config=config, output=output, verbose=verbose, progress=not no_progress)


def start(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    before_verb = itertools.takewhile(lambda word: word not in VERBS, sys.argv[1:] if words is None else words)
    verbose = any(word in ("-v", "--verbose") for word in before_verb)
    try:
        result = program.main(args=words, prog_name="flyte", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # `flyte get run | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nstopped by Ctrl-C", err=True)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost function: every error becomes a message
        return report(error, verbose)
    return result if isinstance(result, int) else 0


def report(error: Exception, verbose: bool = False) -> int:
    """Print the error for the user, without a traceback of this program, and return the exit code."""
    if isinstance(error, click.ClickException):
        error.show()
        return NOT_POSSIBLE
    if verbose:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BaseRuntimeError):
        say_error(error.message)
    else:
        say_error(f"{type(error).__name__}: {error}" + ("" if verbose else "\n(`flyte -v …` shows where it arose)"))
    return NOT_POSSIBLE


def say_error(message: str) -> None:
    from flyte.cli.render import printable

    click.echo(click.style("Error: ", fg="red", bold=True) + printable(message), err=True)

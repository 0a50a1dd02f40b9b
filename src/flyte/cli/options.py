"""Options that commands share: project, domain and format, and the connection to the platform."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from flyte._client.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])

FORMATS = ("table", "json", "table-simple", "json-raw", "name", "url")
"""`name` and `url` print that column alone, one a line, for scripts."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options before the verb."""

    config: str | None = None
    output: str | None = None
    verbose: int = 0
    progress: bool = True

    def format(self, output: str | None) -> str:
        """The effective format: the verb's own flag, else the one before the verb."""
        return output or self.output or "table"

    @property
    def is_live(self) -> bool:
        """Whether stderr, to which progress is written, is a terminal that can be redrawn."""
        return self.progress and sys.stderr.isatty()


def examples(*lines: str) -> str:
    """The end of a command's help: lines that can be typed as they are, each with its purpose."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def scoped(command: Command) -> Command:
    """Add --project and --domain."""
    command = click.option("-d", "--domain", help="Domain.  [default: development]")(command)
    return click.option("-p", "--project", help="Project.  [default: flytesnacks]")(command)


OUTPUT_FLAGS = ("-o", "-of", "--output", "--output-format")
OUTPUT = {"type": click.Choice(FORMATS), "metavar": "FORMAT"}


def formatted(command: Command) -> Command:
    """Add --output, for a command that lists or shows."""
    words = f"How it is shown: {', '.join(FORMATS)}.  [default: table]"
    return click.option(*OUTPUT_FLAGS, "output", help=words, **OUTPUT)(command)  # type: ignore[arg-type]


def shipped(command: Command) -> Command:
    """Add the flags for shipping code: --version, --copy-style, --root-dir, --strict."""
    for flag in reversed(shipping_flags()):
        command = flag(command)
    return command


def shipping_flags() -> list[Callable[[Command], Command]]:
    return [
        click.option("--version", metavar="TEXT", help="Version to register.  [default: made from the code]"),
        click.option(
            "--copy-style",
            type=click.Choice(("loaded_modules", "all", "none")),
            default="loaded_modules",
            show_default=True,
            help="What travels: the modules that FILE imports, the whole root folder, or nothing.",
        ),
        click.option(
            "--root-dir",
            metavar="DIR",
            help="Folder the code is shipped from.  [default: FILE's own, or above its package]",
        ),
        click.option("--strict", is_flag=True, help="Refuse what is declared and has no effect here (docs/limits.md)."),
    ]


NOT_FILTERS = {"name", "version", "run", "project", "domain", "output"}
"""Options that a listing command accepts together with a NAME."""


def refuse_filters(name: str | None) -> None:
    """Raises UsageError for a list's filter together with the NAME of one record, since it would have no effect."""
    ctx = click.get_current_context()
    if name is None:
        return
    for param in ctx.command.params:
        given = ctx.get_parameter_source(param.name or "")
        if param.name not in NOT_FILTERS and given is not click.core.ParameterSource.DEFAULT:
            ctx.fail(f"{param.opts[0]} is for the list; with NAME only {name!r} is shown.")


def invocation() -> Invocation:
    """The options before the present verb."""
    found = click.get_current_context().find_object(Invocation)
    return found if found is not None else Invocation()


def connect(
    project: str | None = None, domain: str | None = None, *, root_dir: Path | None = None, start: bool = False
) -> Client:
    """The platform: the configured one, else this machine's, which `start` starts if it does not run.

    It is the process's active platform afterwards. Raises InitializationError if there is none.
    """
    from flyte._session import config as _config
    from flyte._session import find as _platform
    from flyte._session import init as _init
    from flyte._session import state as _state
    from flyte.errors import InitializationError

    config = _config.load(invocation().config)
    named = config.endpoint or (config.api_key and _config.read_api_key(config.api_key).endpoint)
    if not named:
        found = _platform.find()
        if found is None and start:
            say("flyte: starting the platform on this machine …")
            found = _platform.find_or_start()
            say(f"flyte: it runs at {found.endpoint} (`flyte down` stops it)")
        if found is None:
            raise InitializationError(
                "PlatformNotRunningError",
                "user",
                "no platform is configured and none runs on this machine; `flyte up` starts one",
            )
        config = replace(config, endpoint=found.endpoint, api_key=config.api_key or found.token)
    _init.init_from_config(config, root_dir=root_dir, project=project, domain=domain)
    return _state.client()


def say(line: str) -> None:
    """Print one line on stderr; stdout is for results."""
    from flyte.cli.render import printable

    click.echo(printable(line, colors=True), err=True)


def warn(line: str) -> None:
    """Print a warning; the command goes on."""
    say(click.style(f"warning: {line}", fg="yellow"))


def pairs(texts: tuple[str, ...], flag: str) -> dict[str, str]:
    """`KEY=VALUE` words as a dict. Raises UsageError for a word without `=`, or without a key."""
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise click.UsageError(f"{flag} {text}: write it as KEY=VALUE.")
    return dict(text.split("=", 1) for text in texts)

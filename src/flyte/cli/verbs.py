"""Groups of commands: their help in whole sentences, and an answer to Flyte's commands that are not here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from flyte.cli import plugin_commands

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

DEVBOX = "there is no devbox; `flyte up` starts the platform on this machine, `flyte down` stops it"
SETTINGS = "the platform's settings are TARMAC_* variables, see docs/settings.md"
CONDITIONS = "there are no conditions; end the run, and let an app's handler start the next one"

ABSENT: Mapping[str, str] = {
    "signal": CONDITIONS,
    "proxy": "an app answers at its address, which `flyte get app NAME -o url` prints, with a key from "
    "`flyte create api-key`",
    "rerun": "call `flyte.rerun(RUN)` in Python, or press `Run again` on the run's page",
    "start": DEVBOX,
    "stop": DEVBOX,
    "edit": SETTINGS,
    "prefetch": "fetch the model in a task, and return a `flyte.io.Dir`",
    "gen": "the commands are described in docs/cli.md",
    "get code": "call `flyte.remote.Run.get(RUN).download_code()` in Python",
    "get settings": SETTINGS,
    "get devbox": DEVBOX,
    "delete devbox": DEVBOX,
    "get condition": CONDITIONS,
    "create artifact": "call `flyte.remote.Artifact.create` in Python",
    "update project": "call `flyte.remote.Project.get(ID).update()` in Python",
    "run hello": "write a file with a task, see docs/quickstart.md, and `flyte run FILE TASK`",
    "run python-script": "call the script's functions from a task, and run that",
    "serve hello": "write a file with an app, see docs/quickstart.md, and `flyte serve FILE APP`",
}
"""Flyte's commands that Tarmac does not have, and what to do instead."""


def refuse_absent(ctx: click.Context, command: str) -> None:
    """Raises UsageError for a command of Flyte's that Tarmac does not have."""
    if command in ABSENT:
        ctx.fail(f"Tarmac does not have `flyte {command}`: {ABSENT[command]}; see docs/limits.md")


class Verbs(click.Group):
    """A verb whose commands are its nouns, such as `flyte get run`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._added()]

    def _added(self) -> dict[str, EntryPoint]:
        return plugin_commands.of_group(self.name or "", self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        point = self._added().get(cmd_name)
        return super().get_command(ctx, cmd_name) if point is None else plugin_commands.load(point)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        given = args[0]
        if not given.startswith("-") and given not in self.list_commands(ctx):
            refuse_absent(ctx, f"{ctx.info_name} {given}")
            near = difflib.get_close_matches(given, self.commands, n=1, cutoff=0.7)
            hint = (
                f"did you mean `flyte {ctx.info_name} {near[0]}`?" if near else f"it has: {', '.join(self.commands)}."
            )
            ctx.fail(f"`flyte {ctx.info_name}` has no {given!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List each command with its complete first sentence."""
        rows = [(name, first_sentence(command.help or "")) for name, command in sorted(self.commands.items())]
        rows += [(name, plugin_commands.summary(point)) for name, point in self._added().items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def first_sentence(text: str) -> str:
    words = " ".join(text.split("\n\n")[0].split())
    return words.partition(". ")[0].rstrip(".") + "."

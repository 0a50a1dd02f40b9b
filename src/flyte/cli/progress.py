"""The progress of a deployment: one row for each environment, by level, with its phase and address.

On a terminal the rows are redrawn in place, in a pipe each change is a line; both on stderr.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from flyte.cli.options import say, warn
from flyte.cli.render import COLORS, one_line, words
from flyte.wire import DeployedEnvironment, Deployment

if TYPE_CHECKING:
    from rich.console import RenderableType

Watcher = Callable[[Deployment], None]


@contextlib.contextmanager
def watching(live: bool, brief: bool = False) -> Iterator[Watcher]:
    """A function to call with each new record of a deployment; with `brief`, only apps that must start are shown."""
    if not live:
        yield _lines(brief)
        return
    from rich.console import Console
    from rich.live import Live

    shown: list[Deployment] = []
    with Live(
        console=Console(stderr=True, highlight=False),
        refresh_per_second=8,
        transient=brief or sys.stdout.isatty(),
        get_renderable=lambda: drawing(shown[-1] if shown else None),
    ):
        yield shown.append
    for warning in shown[-1].warnings if shown else ():  # they stay when the rows are gone
        warn(warning)


def _lines(brief: bool) -> Watcher:
    last: dict[str, str] = {}

    def show(record: Deployment) -> None:
        for env in record.environments:
            if brief and env.phase != "building" and (env.kind == "task" or env.phase == "unchanged"):
                continue
            state = f"{env.phase} {env.message if env.phase in ('building', 'starting') else ''}".strip()
            if last.get(env.name, "waiting") != state:
                last[env.name] = state
                say(f"{env.name}: {words(env.phase)}" + (f"  {note(env)}" if note(env) else ""))
        for warning in record.warnings:
            if warning not in last:
                last[warning] = "said"
                warn(warning)

    return show


def note(env: DeployedEnvironment) -> str:
    """The remark on an environment: its error or progress, its address, its tasks."""
    if env.message:  # the further lines are a program's last output, which is shown with the error
        return one_line(env.message.partition("\n")[0], 300)
    return "  ".join(filter(None, (env.url or ", ".join(env.tasks), env.image)))


def drawing(record: Deployment | None) -> RenderableType:
    """The environments by level, with their present phases."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    if record is None:
        table.add_row(Text("packing and sending the code …", style="dim"))
        return table
    for env in sorted(record.environments, key=lambda env: (env.level, env.name)):
        phase = Text(words(env.phase), style=COLORS.get(env.phase, "dim"))
        table.add_row(
            f"  level {env.level}", Text(env.name, style="bold"), env.kind, phase, Text(note(env), style="dim")
        )
    return table

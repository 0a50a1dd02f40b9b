"""The live display of a run: its tree, phases, times and log lines, until the root action has ended.

There are two displays. On a terminal the tree is redrawn in place and log lines scroll above it; in a pipe each change
of the root's phase and each log line is one line. Both write to stderr: stdout is for the result alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from flyte.cli.logs import Labels
from flyte.cli.options import say
from flyte.cli.render import COLORS, lasted, one_line, printable, words
from flyte.errors import NotFoundError
from flyte.wire import CACHED, ROOT_ACTION, Action, ActionFilter, ActionPhase, Event, Run

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from rich.tree import Tree

    from flyte._client.client import Client

SHOWN_CHILDREN = 12
"""Children of one action that are shown; if there are more, finished children are only counted."""

REFRESH = 0.3
"""Seconds between two requests for the list of actions, while something changes."""

LISTED = ActionFilter(limit=1000)
"""The actions that are shown."""

LAST_LINES = 3.0
"""Seconds to wait for the rest of the log after the end of the run."""


@dataclass(slots=True)
class View:
    """The known state of the run."""

    run: Run
    actions: list[Action] = field(default_factory=list)


class Screen(Protocol):
    follows_actions: bool

    def show(self, view: View) -> None: ...

    def log(self, text: str) -> None: ...


async def follow(client: Client, run: Run, live: bool) -> Run:
    """Show the run until it has ended, and return its last record. The connection may be lost in between.

    Raises SystemUnavailableError when it stays lost, and the errors that the platform answers.
    """
    view = View(run)
    with _live_screen(view) if live else contextlib.nullcontext(_Plain()) as screen:
        try:
            await _until_over(client, view, screen)
        except BaseExceptionGroup as group:
            raise _first(group) from None
        view.run = await client.get_run(run.name)
        if screen.follows_actions:
            view.actions = await client.list_actions(run.name, LISTED)
        screen.show(view)
    return view.run


async def _until_over(client: Client, view: View, screen: Screen) -> None:
    name = view.run.name
    async with asyncio.TaskGroup() as group:
        logs = group.create_task(_show_logs(client, name, screen))
        changed = asyncio.Event()
        if screen.follows_actions:
            refresher = group.create_task(_refresh(client, view, changed, screen))
        async for view.run in _records(client, name, changed, screen.follows_actions):
            if not view.run.phase.is_terminal:
                screen.show(view)
        await asyncio.wait({logs}, timeout=LAST_LINES)  # what it wrote stands before how it ended
        logs.cancel()
        if screen.follows_actions:
            refresher.cancel()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error: the tasks of a group fail together, and mostly for one reason."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _records(client: Client, name: str, changed: asyncio.Event, every: bool) -> AsyncIterator[Run]:
    """The run's record after each change of the root action; `changed` is set at any action's change."""
    run: Run | None = None
    async for _, _, record in client.run_events(name, actions="all" if every else "root"):
        changed.set()
        if isinstance(record, Run):
            run = record
        elif run is None or not record.subject.endswith(f"/{ROOT_ACTION}"):
            continue
        else:
            run = _after(run, record)
        yield run


def _after(run: Run, event: Event) -> Run:
    phase = ActionPhase(event.phase)
    started = run.started or (event.at if phase is ActionPhase.RUNNING else None)
    ended = event.at if phase.is_terminal else None
    return msgspec.structs.replace(run, phase=phase, message=event.message, started=started, ended=ended)


async def _refresh(client: Client, view: View, changed: asyncio.Event, screen: Screen) -> None:
    while True:
        await changed.wait()
        changed.clear()
        view.actions = await client.list_actions(view.run.name, LISTED)
        screen.show(view)
        await asyncio.sleep(REFRESH)


async def _show_logs(client: Client, run: str, screen: Screen) -> None:
    labels = Labels(client, run)
    try:
        async for line in client.whole_run_logs(run, follow=True):
            screen.log(await labels.of(line.source) + line.text)
    except NotFoundError:  # it never came to run, so it wrote nothing
        return


class _Plain:
    """Lines, for a pipe and for a log file."""

    follows_actions = False

    def __init__(self) -> None:
        self._last: tuple[str, int] | None = None

    def show(self, view: View) -> None:
        run = view.run
        if (run.phase.value, run.attempt) == self._last or run.phase is ActionPhase.QUEUED:
            return
        self._last = (run.phase.value, run.attempt)
        took = f" after {lasted(run.started, run.ended)}" if run.phase.is_terminal and run.started else ""
        # how it failed is said when all of it is known
        quiet = (ActionPhase.SUCCEEDED, ActionPhase.FAILED, ActionPhase.TIMED_OUT, ActionPhase.ABORTED)
        is_cached = run.phase is ActionPhase.SUCCEEDED and run.message.startswith(CACHED)
        is_news = is_cached or (run.message not in ("", run.phase.value) and run.phase not in quiet)
        say(f"{run.name}: {words(run.phase)}{took}" + (f" ({one_line(run.message, 200)})" if is_news else ""))

    def log(self, text: str) -> None:
        say(f"  | {text}")


@contextlib.contextmanager
def _live_screen(view: View) -> Iterator[Screen]:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    with Live(console=console, refresh_per_second=8, get_renderable=lambda: drawing(view)) as live:
        yield _Redrawn(live.console.print)


class _Redrawn:
    """A terminal; `rich` redraws the view by itself several times a second."""

    follows_actions = True

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write

    def show(self, view: View) -> None:
        """The view is drawn from as it is."""

    def log(self, text: str) -> None:
        from rich.text import Text

        self._write(Text("  ", style="dim") + Text.from_ansi(printable(text, colors=True), style="dim"))


def drawing(view: View) -> RenderableType:
    """The tree of actions as it stands."""
    from rich.tree import Tree

    run = view.run
    below: dict[str | None, list[Action]] = {}
    for action in sorted(view.actions, key=lambda action: action.created):
        below.setdefault(action.parent, []).append(action)
    tree = Tree(_label(run.task, run.phase, run.started, run.ended, run.message))
    _grow(tree, ROOT_ACTION, below)
    return tree


def _grow(tree: Tree, parent: str, below: dict[str | None, list[Action]]) -> None:
    from rich.text import Text

    children = below.get(parent, [])
    drawn = children
    if len(children) > SHOWN_CHILDREN:
        counts = Counter(action.phase.value for action in children)
        told = ", ".join(f"{n} {words(phase)}" for phase, n in counts.items())
        tree.add(Text(f"{len(children)} actions: {told}", style="dim"))
        drawn = [action for action in children if not _is_quiet(action.phase)][:SHOWN_CHILDREN]
    for action in drawn:
        message = action.error.message if action.error else action.message
        name = action.short_name or action.task
        branch = tree.add(_label(name, action.phase, action.started, action.ended, message, action.attempt))
        _grow(branch, action.name, below)


def _is_quiet(phase: ActionPhase) -> bool:
    return phase.is_success or phase is ActionPhase.QUEUED


def _label(
    name: str, phase: ActionPhase, started: float | None, ended: float | None, message: str, attempt: int = 1
) -> Text:
    """One line of the tree, as plain text: a task's name or message may look like `rich` markup."""
    from rich.text import Text

    is_news = phase not in (ActionPhase.SUCCEEDED, ActionPhase.RUNNING) or message.startswith(CACHED)
    parts = [
        Text(printable(name)),
        Text(words(phase), style=COLORS.get(phase.value, "default")),
        Text(lasted(started, ended)),
        Text(f"attempt {attempt}" if attempt > 1 else ""),
        Text(one_line(message, 100) if is_news else "", style="dim"),
    ]
    return Text("  ").join(part for part in parts if part.plain)

"""The part of a run's tree that a page shows: the expanded actions, each with one page of its children.

The expanded actions are in the page's address, as `open=a0,3f…~2`: the action's name and, after the tilde, the page of
its children. So one request renders any view of a run with 100,000 actions, and no view has more than a few thousand
rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flyte.wire import ROOT_ACTION, Action, ActionFilter, Run
from tarmac.api.plane import ControlPlane

PAGE = 100
"""Children of one action on a page."""
MOST_OPEN = 40
"""How many actions may be expanded at once; those named last are left out."""


@dataclass(frozen=True, slots=True)
class Unfolded:
    """The expanded actions, each with the page of its children."""

    pages: Mapping[str, int]

    @classmethod
    def read(cls, text: str | None) -> Unfolded:
        """Parse the address' part; without one the root is expanded."""
        if text is None:
            return cls({ROOT_ACTION: 0})
        pages: dict[str, int] = {}
        for part in text.split(","):
            name, _, page = part.partition("~")
            if name and len(pages) < MOST_OPEN:
                pages[name] = int(page) if page.isdecimal() else 0
        return cls(pages)

    def written(self) -> str:
        return ",".join(f"{name}~{page}" if page else name for name, page in self.pages.items())

    def toggled(self, action: str) -> str:
        """The address' part with `action` collapsed if it is expanded, else expanded."""
        if action in self.pages:
            return Unfolded({name: page for name, page in self.pages.items() if name != action}).written()
        return self.turned(action, 0)

    def turned(self, action: str, page: int) -> str:
        """The address' part with `action` expanded at `page`."""
        return Unfolded({**self.pages, action: page}).written()


@dataclass(frozen=True, slots=True)
class Pager:
    """The line below a page of children, if there are more."""

    first: int
    last: int
    total: int
    before: str | None
    """The value of `open` for the page before; None on the first page."""
    after: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tree: an action, or the pager of one."""

    depth: int
    action: Action
    is_open: bool = False
    toggle: str | None = None
    """The value of `open` after the action is collapsed or expanded; None if it has no children."""
    pager: Pager | None = None


async def rows(control: ControlPlane, run: str, unfolded: Unfolded) -> list[Row]:
    """The tree's lines, from the root down."""
    (root,) = await control.actions.list(run, ActionFilter(limit=1))  # the first one made
    found = [_row(0, root, unfolded)]
    if found[0].is_open:
        await _below(control, root, unfolded, 1, found)
    return found


async def _below(control: ControlPlane, parent: Action, unfolded: Unfolded, depth: int, found: list[Row]) -> None:
    page = unfolded.pages[parent.name]
    children = await control.actions.list(parent.run, ActionFilter(parent=parent.name, limit=PAGE, offset=page * PAGE))
    for child in children:
        row = _row(depth, child, unfolded)
        found.append(row)
        if row.is_open:
            await _below(control, child, unfolded, depth + 1, found)
    if page or parent.children > PAGE:
        found.append(Row(depth, parent, pager=_pager(parent, page, len(children), unfolded)))


def _row(depth: int, action: Action, unfolded: Unfolded) -> Row:
    if not action.children:
        return Row(depth, action)
    return Row(depth, action, action.name in unfolded.pages, unfolded.toggled(action.name))


def _pager(parent: Action, page: int, shown: int, unfolded: Unfolded) -> Pager:
    last = page * PAGE + shown
    return Pager(
        first=page * PAGE + 1,
        last=last,
        total=parent.children,
        before=unfolded.turned(parent.name, page - 1) if page else None,
        after=unfolded.turned(parent.name, page + 1) if last < parent.children else None,
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """An action's position in its run's time, in thousandths of it; `start` and `length` are of the running part."""

    queued: int
    start: int
    length: int


def bars(run: Run, actions: Iterable[Action]) -> dict[str, Bar]:
    """Each action's bar. The run's time goes from its creation to its end, or to now."""
    now = time.time()
    end = run.ended or now
    span = max(end - run.created, 0.001)

    def at(moment: float | None) -> int:
        return round(min(max(((moment or end) - run.created) / span, 0), 1) * 1000)

    return {
        action.name: Bar(at(action.created), at(action.started), max(at(action.ended) - at(action.started), 3))
        for action in actions
    }

"""Who am I: which action runs here, and who starts its children.

The worker (or local mode) puts an action's `TaskContext` and its `Caller` in force with `entered`, or, in a process
that runs one action at a time, with `set_process_action`, which threads of the user's own see too. Everything else
asks `ctx()` and `current_caller()`; outside an action they are a falsy null object and None. A process that an action
forks is outside of it (`forget`).
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from flyte import rules

if TYPE_CHECKING:
    from flyte._checkpoint import Checkpoint

Mode = Literal["local", "remote"]


@dataclass(frozen=True, slots=True)
class ActionID:
    """Which action this is; all None outside one."""

    name: str | None = None
    run_name: str | None = None
    project: str | None = None
    domain: str | None = None
    org: str | None = None


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What an action knows of itself. Falsy outside an action, with every field None or empty."""

    action: ActionID = ActionID()
    version: str | None = None
    task_name: str | None = None
    mode: Mode | None = None
    attempt: int = 1
    """1 for the first attempt."""
    parent: str | None = None
    group: str | None = None
    run_url: str = ""
    run_start_time: datetime.datetime | None = None
    custom_context: Mapping[str, str] = field(default_factory=dict)
    raw_data_path: str | None = None
    input_path: str | None = None
    output_path: str | None = None
    run_base_dir: str | None = None
    checkpoint_paths: str | None = None
    """Below all checkpoints, the folder of this action's."""
    checkpoint_root: Callable[[], Path] | None = field(default=None, repr=False, compare=False)
    """The folder of all checkpoints; found, and made, when this action asks for its own."""
    code_bundle: str | None = None
    compiled_image_cache: None = None
    """None: images are interpreters of this machine."""
    data: dict[str, Any] = field(default_factory=dict)
    """A place for whatever the user's code wants to keep for the time of the action."""
    report: Any = None
    """The action's `flyte.report.Report`, once something was written to it."""
    failures: int = 0
    """How often the action failed by its own fault in earlier attempts."""
    calls: Counter[tuple[str, ...]] = field(default_factory=Counter, repr=False, compare=False)
    """How often this attempt made each call of a fetched task; see `remote.TaskDetails`."""
    interactive_mode: bool = False
    disable_run_cache: bool = False

    def __bool__(self) -> bool:
        return self.action.name is not None

    @property
    def attempt_number(self) -> int:
        """0 for the first attempt, as in `FLYTE_ATTEMPT_NUMBER`."""
        return self.attempt - 1

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What this action saved in earlier attempts, and where it saves; None outside an action."""
        if self.checkpoint_paths is None or self.checkpoint_root is None:
            return None
        from flyte._checkpoint import Checkpoint

        found: Checkpoint | None = self.data.get("flyte.checkpoint")
        if found is None:
            found = Checkpoint(self.checkpoint_root() / self.checkpoint_paths, self.attempt)
            found = self.data.setdefault("flyte.checkpoint", found)
        return found

    @property
    def task_action(self) -> ActionID:
        return self.action

    @property
    def group_data(self) -> str | None:
        return current_group()

    @property
    def in_driver_literal_conversion(self) -> bool:
        """False: values are converted where they are made and used. Plugins ask before they write a report."""
        return False

    def is_in_cluster(self) -> bool:
        """Whether a platform runs this action, rather than local mode."""
        return self.mode == "remote"


class Caller(Protocol):
    """Starts children and keeps traces for the action in force.

    A `task` is a `TaskTemplate`, which is declared above this module.

    The coroutines may be awaited on any event loop of the process, the others called on any thread. `inputs` and
    results are Python values, as the task's interface declares them. A child's failure is raised as
    `flyte.errors.make` rebuilds it. A trace's values are JSON, because only the traced function knows their types.
    """

    async def call(self, task: Any, inputs: dict[str, Any], *, group: str | None) -> Any: ...

    def call_blocking(self, task: Any, inputs: dict[str, Any], *, group: str | None) -> Any: ...

    async def trace_lookup(self, step: str, name: str) -> tuple[bool, Any]:
        """Whether an earlier attempt recorded the step, and its JSON value; raises the error that it recorded."""
        ...

    async def trace_record(
        self, step: str, name: str, value: Any = None, error: BaseException | None = None, started: float = 0
    ) -> None: ...

    def trace_lookup_blocking(self, step: str, name: str) -> tuple[bool, Any]: ...

    def trace_record_blocking(
        self, step: str, name: str, value: Any = None, error: BaseException | None = None, started: float = 0
    ) -> None: ...

    @property
    def is_ending(self) -> bool:
        """Whether this process was told to end.

        A cancellation is not the user's then: the action is taken up again, and nothing that it called may be aborted.
        """
        ...

    def progress(self, message: str, body: dict[str, Any] | None = None) -> None:
        """Send a message to the action's watchers; returns at once."""
        ...


_NOWHERE = TaskContext()
_context: ContextVar[TaskContext | None]
_caller: ContextVar[Caller | None]
_group: ContextVar[str | None]
_tracing: ContextVar[bool]
_custom: ContextVar[Mapping[str, str] | None]
_process: tuple[TaskContext, Caller] | None


def forget() -> None:
    """Have no action in force any more, in no context and no thread; for a process that was forked inside one.

    The variables are new ones: what stands in the old ones cannot be taken out of contexts that are not at hand.
    """
    global _context, _caller, _group, _tracing, _custom, _process
    _context = ContextVar("flyte_context", default=None)
    _caller = ContextVar("flyte_caller", default=None)
    _group = ContextVar("flyte_group", default=None)
    _tracing = ContextVar("flyte_tracing", default=False)
    _custom = ContextVar("flyte_custom_context", default=None)
    _process = None


forget()


def ctx() -> TaskContext:
    """The context of the action that this code runs in; falsy outside one."""
    return _context.get() or (_process[0] if _process else _NOWHERE)


def current_caller() -> Caller | None:
    """Who starts children for the action in force; None outside an action."""
    return _caller.get() or (_process[1] if _process else None)


@contextmanager
def entered(context: TaskContext, caller: Caller) -> Iterator[None]:
    """Put an action in force for the block, and for what it starts with this context."""
    tokens = (_context.set(context), _caller.set(caller), _group.set(None), _custom.set(None), _tracing.set(False))
    try:
        yield
    finally:
        _reset(*tokens)


def _reset(*tokens: Token[Any]) -> None:
    """Undo what was set, in the variables that it was set in."""
    for token in tokens:
        token.var.reset(token)


def set_process_action(context: TaskContext | None, caller: Caller | None) -> None:
    """Put an action in force for the whole process, threads of the user's own included; None ends it."""
    global _process
    _process = (context, caller) if context is not None and caller is not None else None


def current_group() -> str | None:
    """The label that children started here get."""
    return _group.get()


@contextmanager
def group(name: str) -> Iterator[None]:
    """Label the children that the block starts; the label is part of their identity. An inner group replaces it.

    Raises ValueError for a label of more than 1,000 characters, or with a NUL character.
    """
    rules.LINE.check(name)
    token = _group.set(name)
    try:
        yield
    finally:
        _reset(token)


def is_tracing() -> bool:
    """Whether a traced function is running, in which tasks must not be called."""
    return _tracing.get()


@contextmanager
def tracing(step: str) -> Iterator[None]:
    """Mark the block as a traced step; to `ctx()` it is an action of its own."""
    context = ctx()
    inside = replace(context, action=replace(context.action, name=step), parent=context.action.name)
    token, outer = _tracing.set(True), _context.set(inside)
    try:
        yield
    finally:
        _reset(outer, token)


def get_custom_context() -> dict[str, str]:
    """The key-value pairs that the run, its parents and `custom_context` blocks gave this code."""
    return {**ctx().custom_context, **(_custom.get() or {})}


@contextmanager
def custom_context(**pairs: str) -> Iterator[None]:
    """Give the children that the block starts these pairs, on top of those in force; no part of any cache key."""
    wrong = [key for key, value in pairs.items() if not isinstance(value, str)]
    if wrong:
        raise TypeError(f"custom_context takes strings; {wrong[0]} is {type(pairs[wrong[0]]).__name__}")
    token = _custom.set({**(_custom.get() or {}), **pairs})
    try:
        yield
    finally:
        _reset(token)

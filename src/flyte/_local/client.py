"""Local mode: runs whose tasks run in this process.

Async tasks run on one event loop in a thread of its own (`flyte-local`), each sync task in a thread. Values still go
through JSON on their way in and out, retries, backoff and timeouts hold, children are actions with names and phases of
their own, and a run goes on in the background while its starter does something else: what works here works on a
platform. What one process cannot give is left out: environment variables, secrets, images, resources, reuse of
processes, limits of concurrency; a sync task that is timed out or aborted goes on in its thread, unheard.

Phases and events change on the loop's thread only; `LocalClient` brings every call there. Finished runs stay in memory.
When the program ends, it waits for the runs that it started, and says on stderr which of those failed. On Python 3.12
they can start no thread any more by then: `asyncio.to_thread` and calls of sync tasks fail. Its forked children (a
process pool's) know nothing of them: in there a call of a task is a plain function call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal

import msgspec

from flyte import wire
from flyte._context import ctx, get_custom_context
from flyte._declare.links import Submission, links_of
from flyte._local.action import start
from flyte._local.exit import prepare_process
from flyte._local.run import LocalAction, LocalRun, Task, ended, runs, thread
from flyte._values.text import to_bytes
from flyte.concurrency import limit_of
from flyte.errors import ActionNotFoundError, NotFoundError, RunAlreadyExistsError, RunNotFoundError
from flyte.names import run_name
from flyte.wire import ActionPhase


class LocalClient:
    """What `_client.Client` is for a platform's runs, for those of this process. Usable on any event loop."""

    endpoint = "local://"

    def __init__(self, project: str = wire.DEFAULT_PROJECT, domain: str = wire.DEFAULT_DOMAIN) -> None:
        self.project = project
        self.domain = domain

    def scoped(self, project: str | None = None, domain: str | None = None) -> LocalClient:
        return LocalClient(project or self.project, domain or self.domain)

    async def create_local(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        *,
        name: str | None = None,
        version: str | None = None,
        labels: Mapping[str, str] | None = None,
        custom_context: Mapping[str, str] | None = None,
        max_action_concurrency: int | None = None,
        overwrite_cache: bool = False,
        disable_cache: bool = False,
        raw_data_path: str | None = None,
        run_base_dir: str | None = None,
        **unused: Any,
    ) -> wire.Run:
        """Start a run of `task` with bound inputs, or find the one that the same name already started; it goes on in
        the background.

        Of a platform's other options (env_vars, …) none means anything here.
        Raises InvalidInputError, and RunAlreadyExistsError for a name that belongs to another task or other inputs.
        """
        data = to_bytes(task.dump_inputs(inputs))
        custom = {**get_custom_context(), **(custom_context or {})}
        root = LocalAction(wire.ROOT_ACTION, task, data, None, None, custom)
        run = LocalRun(
            name or run_name(time.time()),
            self.project,
            self.domain,
            version or ctx().version or "local",
            dict(labels or {}),
            limit_of(max_action_concurrency),
            overwrite_cache,
            disable_cache,
            raw_data_path,
            run_base_dir,
        )
        return await thread.aio(_created(run, root))

    async def get_run(self, name: str, wait: float | None = None) -> wire.Run:
        """The run now or, with `wait`, when it has ended or that many seconds are over."""

        async def there() -> wire.Run:
            run = _find(name)
            if wait:
                await ended(run, wait)
            return run.to_wire()

        return await thread.aio(there())

    async def list_runs(self, chosen: wire.RunFilter = wire.EVERY_RUN) -> list[wire.Run]:
        """The chosen runs of this process in this project and domain, newest first.

        Raises RunNotFoundError if `before_run` is unknown.
        """

        async def there() -> list[wire.Run]:
            newest = [run.to_wire() for run in reversed(runs.values())]
            if (last := chosen.before_run) is not None:
                newest = newest[[run.name for run in newest].index(_find(last).name) + 1 :]
            scope = (self.project, self.domain)
            found = [run for run in newest if (run.project, run.domain) == scope and chosen.matches(run)]
            return found[: chosen.limit]

        return await thread.aio(there())

    async def abort_run(self, name: str, reason: str = "") -> wire.Run:
        """Cancel the run's tasks; a sync one is left alone in its thread."""
        await self.abort_action(name, wire.ROOT_ACTION, reason)
        return await self.get_run(name)

    async def abort_action(self, run: str, action: str, reason: str = "") -> None:
        async def there() -> None:
            found = _find_action(_find(run), action)
            if found.work is not None and not found.work.done():
                found.abort_reason = reason
                found.work.cancel()
                await asyncio.wait([found.work])

        await thread.aio(there())

    async def list_actions(self, run: str, chosen: wire.ActionFilter = wire.EVERY_ACTION) -> list[wire.Action]:
        """The chosen actions of a run in the order of their creation."""

        async def there() -> list[wire.Action]:
            found = _find(run)
            return chosen.page(found.action_to_wire(action) for action in found.actions.values())

        return await thread.aio(there())

    async def get_action(self, run: str, action: str = wire.ROOT_ACTION) -> wire.ActionDetails:
        async def there() -> wire.ActionDetails:
            found = _find(run)
            known = _find_action(found, action)
            return wire.ActionDetails(
                action=found.action_to_wire(known),
                inputs=msgspec.Raw(known.inputs),
                outputs=msgspec.Raw(known.outputs) if known.outputs is not None else None,
                attempts=list(known.attempts),
                interface=known.task.interface.spec(),
                links=_links(found, known),
                version=found.version,
            )

        return await thread.aio(there())

    async def run_events(
        self, name: str, after: int | None = None, actions: str = "root"
    ) -> AsyncGenerator[tuple[Literal["snapshot", "event"], int, wire.Run | wire.Event], None]:
        """The run as it goes, `actions` being `root` or `all`; ends when the root action has ended."""
        if after is None:
            snapshot = await self.get_run(name)
            after = snapshot.seq
            yield "snapshot", snapshot.seq, snapshot
            if snapshot.phase.is_terminal:
                return
        root = f"run/{name}/{wire.ROOT_ACTION}"
        while True:
            events, is_over = await thread.aio(_events_after(name, after))
            for event in events:
                after = event.seq
                if actions == "all" or event.subject == root:
                    yield "event", event.seq, event
                if event.subject == root and ActionPhase(event.phase).is_terminal:
                    return
            if is_over and not events:
                return

    async def get_report(self, run: str, action: str = wire.ROOT_ACTION, attempt: int | None = None) -> wire.Report:
        """What the action last showed as its report. Raises NotFoundError where that is nothing."""

        async def there() -> wire.Report:
            found = _find(run)
            _find_action(found, action)
            for event in reversed(found.events):
                is_its_own = event.subject == f"run/{run}/{action}" and attempt in (None, event.attempt)
                if is_its_own and "report" in event.body:
                    return wire.Report(attempt=event.attempt, at=event.at, html=event.body["report"])
            raise NotFoundError(f"the action {run}/{action} has no report; a task writes one with `flyte.report`")

        return await thread.aio(there())

    async def run_logs(
        self, run: str, action: str = wire.ROOT_ACTION, **options: Any
    ) -> AsyncGenerator[wire.LogLine, None]:
        """One line that says where the task's output is: this process has written it already."""
        await self.get_action(run, action)
        yield wire.LogLine(text="local mode: the task wrote to the output of the process that started it", offset=0)


async def _created(run: LocalRun, root: LocalAction) -> wire.Run:
    """The run that was started; where its name is taken, the one that has it, if it is the same call."""
    known = runs.get(run.name)
    if known is not None:
        if (known.root.task.name, known.project, known.domain) != (root.task.name, run.project, run.domain):
            place = f"in {known.project}/{known.domain} and runs {known.root.task.name}"
            raise RunAlreadyExistsError(f"run {run.name!r} exists {place}; choose another name")
        if msgspec.json.decode(known.root.inputs) != msgspec.json.decode(root.inputs):
            raise RunAlreadyExistsError(f"run {run.name!r} exists with other inputs; choose another name")
        return known.to_wire()
    prepare_process()
    runs[run.name] = run
    start(run, root)
    created = run.to_wire()
    await asyncio.sleep(0)  # one turn, in which the function begins: on Python 3.12 no thread starts after the program
    return created


async def _events_after(name: str, after: int) -> tuple[list[wire.Event], bool]:
    """The events past `after`, waiting for the next one while the run goes on; and whether it has ended."""
    run = _find(name)
    after = min(after, len(run.events))
    while len(run.events) <= after and not run.root.phase.is_terminal:
        await run.changed.wait()
    return run.events[after:], run.root.phase.is_terminal


def _find(name: str) -> LocalRun:
    if name not in runs:
        raise RunNotFoundError(f"this process has no local run named {name!r}")
    return runs[name]


def _links(run: LocalRun, action: LocalAction) -> list[wire.ActionLink]:
    known = Submission(run.name, run.project, run.domain, action.parent or "", action.name, action.custom_context)
    return links_of(action.task.name, action.task.options.links, known)


def _find_action(run: LocalRun, name: str) -> LocalAction:
    if name not in run.actions:
        raise ActionNotFoundError(f"the run {run.name} has no action {name!r}")
    return run.actions[name]

"""What the API shows of runs and actions, made from their rows."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from flyte import wire
from flyte.wire import ErrorInfo
from tarmac.store import ActionRow, AttemptRow, RunRow


def error_of(row: ActionRow | AttemptRow) -> ErrorInfo | None:
    return None if row.error is None else msgspec.json.decode(row.error, type=ErrorInfo)


def cache_of(row: ActionRow) -> wire.CacheUse | None:
    return None if row.cache is None else msgspec.json.decode(row.cache, type=wire.CacheUse)


def run_record(row: RunRow, root: ActionRow, url: str, actions: int, seq: int) -> wire.Run:
    """A run as the API shows it, from its row and its root action's."""
    done = root.phase.is_success
    return wire.Run(
        name=row.name,
        project=row.project,
        domain=row.domain,
        task=row.task,
        version=row.version,
        phase=root.phase,
        url=url,
        created=row.created,
        started=root.started,
        ended=root.ended,
        error=error_of(root),
        attempt=root.attempt,
        outputs=msgspec.Raw(root.outputs) if done and root.outputs is not None else None,
        outputs_blob=root.outputs_blob if done else None,
        message=root.message,
        labels=row.labels,
        created_by=row.created_by,
        actions=actions,
        cache=cache_of(root),
        seq=seq,
    )


def action_record(row: ActionRow, short_name: str = "", children: int = 0) -> wire.Action:
    """An action as the API shows it."""
    return wire.Action(
        run=row.run,
        name=row.name,
        parent=row.parent,
        task=row.task,
        short_name=short_name or row.task.rpartition(".")[2],
        phase=row.phase,
        attempt=row.attempt,
        group=row.group,
        message=row.message,
        created=row.created,
        started=row.started,
        ended=row.ended,
        error=error_of(row),
        children=children,
        cache=cache_of(row),
    )


def details_record(
    row: ActionRow,
    children: int,
    attempts: list[AttemptRow],
    interface: wire.InterfaceSpec,
    bundle: str | None = None,
    links: Iterable[wire.ActionLink] = (),
) -> wire.ActionDetails:
    return wire.ActionDetails(
        action=action_record(row, children=children),
        inputs=None if row.inputs is None else msgspec.Raw(row.inputs),
        inputs_blob=row.inputs_blob,
        outputs=None if row.outputs is None else msgspec.Raw(row.outputs),
        outputs_blob=row.outputs_blob,
        attempts=[attempt_record(attempt) for attempt in attempts],
        interface=interface,
        version=row.version,
        bundle=bundle,
        links=list(links),
    )


def attempt_record(row: AttemptRow) -> wire.Attempt:
    return wire.Attempt(
        number=row.number, phase=row.phase, started=row.started, ended=row.ended, error=error_of(row), unit=row.unit
    )

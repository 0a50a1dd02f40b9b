"""What a worker is told of the action that it takes."""

from __future__ import annotations

from flyte import wire
from tarmac.control.live import LiveAction


def order_for(action: LiveAction) -> wire.Assign:
    run, row = action.run, action.row
    request = run.request
    return wire.Assign(
        run=run.name,
        action=row.name,
        attempt=row.attempt,
        task=row.task,
        version=row.version,
        entry=action.task_spec.entry,
        project=run.row.project,
        domain=run.row.domain,
        inputs=wire.Value(inline=row.inputs, blob=row.inputs_blob),
        parent=row.parent,
        group=row.group,
        env=request.env_vars,
        custom_context=row.custom_context,
        log=f"{run.logs}/{row.name}.{row.attempt}.log",
        started=run.row.created,
        url=run.url,
        failures=row.user_failures,
        disable_cache=request.disable_cache,
    )

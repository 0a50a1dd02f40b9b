"""`flyte get | create | update | delete trigger`: when deployed tasks are started by themselves."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import click

from flyte._client.triggers import Triggers
from flyte.cli import render
from flyte.cli.options import connect, examples, formatted, invocation, say, scoped
from flyte.cli.render import clock
from flyte.cli.tables import Column
from flyte.wire import Trigger, TriggerSpec

_EVERY = re.compile(r"every (?:(\d+) )?(minute|hour|day)s?")
_MINUTES = {"minute": 1, "hour": 60, "day": 1440}


TRIGGERS: Sequence[Column[Trigger]] = (
    Column("task", lambda trigger: trigger.task, least=12),
    Column("name", lambda trigger: trigger.name),
    Column("due", lambda trigger: trigger.spec.when, leaves=1),
    Column("state", lambda trigger: "active" if trigger.active else "paused"),
    Column("next", lambda trigger: clock(trigger.next[0]) if trigger.next else ""),
    Column("last run", lambda trigger: trigger.run or trigger.message, leaves=2, least=16),
)


@click.command(
    "trigger", epilog=examples("flyte get trigger", "flyte get trigger etl.load", "flyte get trigger etl.load daily")
)
@click.argument("task", required=False)
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@scoped
@formatted
def get_trigger(
    task: str | None, name: str | None, limit: int, project: str | None, domain: str | None, output: str | None
) -> None:
    """List the triggers, those of TASK (its full name), or show one of them."""
    form = invocation().format(output)
    triggers = Triggers(connect(project, domain))
    if task is None or name is None:
        found = asyncio.run(triggers.list(task, limit))
        render.listing(found, TRIGGERS, form, "no triggers; a task has them by `@env.task(triggers=…)`")
        return
    trigger = asyncio.run(triggers.get(task, name))
    render.details(
        trigger,
        [
            ("task", trigger.task),
            ("name", trigger.name),
            ("state", "active" if trigger.active else "paused"),
            ("due", trigger.spec.when),
            ("next", ", ".join(clock(each) for each in trigger.next)),
            ("last", clock(trigger.fired) if trigger.fired else ""),
            ("last run", trigger.run),
            ("message", trigger.message),
            ("starts", trigger.version or "the current version"),
            ("made by", "the task's code" if trigger.declared else trigger.updated_by),
        ],
        form,
    )


@click.command(
    "trigger",
    epilog=examples(
        'flyte create trigger etl.load nightly --schedule "30 2 * * *" --timezone Europe/Berlin',
        'flyte create trigger etl.load often --schedule "every 10 minutes" --trigger-time-var at',
    ),
)
@click.argument("task")
@click.argument("name")
@click.option("--schedule", required=True, help='A cron table of five fields, or "every N minutes".')
@click.option("--timezone", default="UTC", show_default=True, help="Time zone of the cron table.")
@click.option("--description", default="", help="For people.")
@click.option("--auto-activate/--paused", "active", default=True, help="Whether it starts runs from now on.")
@click.option("--trigger-time-var", "time_input", help="The input that gets the time for which the run is due.")
@click.option("--inputs", default="{}", metavar="JSON", help="Inputs of its runs, a JSON object.")
@scoped
def create_trigger(
    task: str,
    name: str,
    schedule: str,
    timezone: str,
    description: str,
    active: bool,
    time_input: str | None,
    inputs: str,
    project: str | None,
    domain: str | None,
) -> None:
    """Have a deployed task started by itself. A trigger of the same name that was made so is replaced."""
    import msgspec

    spec = TriggerSpec(
        name=name,
        active=active,
        description=description,
        inputs=msgspec.Raw(json.dumps(_object(inputs)).encode()),
        time_inputs=[time_input] if time_input else [],
        **_times(schedule, timezone),
    )
    trigger = asyncio.run(Triggers(connect(project, domain)).create(task, spec))
    upcoming = f", next at {clock(trigger.next[0])}" if trigger.next else ""
    say(f"trigger {name} of {task} is {'active' if trigger.active else 'paused'}{upcoming}")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--inputs is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.UsageError('--inputs is not a JSON object, as {"x": 1}')
    return found


def _times(schedule: str, timezone: str) -> dict[str, Any]:
    if (found := _EVERY.fullmatch(schedule.strip().lower())) is None:
        return {"cron": schedule, "timezone": timezone}
    return {"every": int(found[1] or 1) * _MINUTES[found[2]]}


@click.command("trigger", epilog=examples("flyte update trigger nightly etl.load --deactivate"))
@click.argument("name")
@click.argument("task")
@click.option("--activate/--deactivate", "active", default=None, help="Let it start runs, or pause it.")
@scoped
def update_trigger(name: str, task: str, active: bool | None, project: str | None, domain: str | None) -> None:
    """Activate a trigger, or pause it. What was due while it was paused is not made up for."""
    if active is None:
        raise click.UsageError("Say what to do: --activate or --deactivate.")
    trigger = asyncio.run(Triggers(connect(project, domain)).switch(task, name, active))
    upcoming = f", next at {clock(trigger.next[0])}" if trigger.next else ""
    say(f"trigger {name} of {task} is {'active' if trigger.active else 'paused'}{upcoming}")


@click.command("trigger", epilog=examples("flyte delete trigger nightly etl.load"))
@click.argument("name")
@click.argument("task")
@scoped
def delete_trigger(name: str, task: str, project: str | None, domain: str | None) -> None:
    """Delete a trigger that was made by `flyte create trigger`; others stand in the code of their task."""
    asyncio.run(Triggers(connect(project, domain)).delete(task, name))
    say(f"trigger {name} of {task} is gone")

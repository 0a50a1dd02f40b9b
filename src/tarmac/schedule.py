"""When a trigger is due: pure functions of its spec and of times in seconds since 1970.

A cron table is read by `cronsim`, as Debian's cron reads it. Where the clocks go forward, a time of the day that does
not exist is due at the end of the gap; where they go back, a time of the day that exists twice is due once. A table
whose minutes or hours are `*` or `*/n` follows the time that passes.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import zoneinfo
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from cronsim import CronSim, CronSimError

from flyte.errors import InvalidInputError
from flyte.wire import INLINE_LIMIT, InterfaceSpec, TriggerSpec

MOST = 100
"""Missed times of one trigger that are made up for at once."""

GRACE = 60.0
"""Seconds after its time in which a fire is not a missed one."""

_WINDOWS = (3_600, 86_400, 40 * 86_400, math.inf)
"""Seconds that are looked at, the last ones first: of a table that is due each minute a month has 43,200 times."""

UNREADABLE = (CronSimError, zoneinfo.ZoneInfoNotFoundError, ValueError, OSError)
"""What is raised for a table or a time zone that is not valid."""

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def check(spec: TriggerSpec, interface: InterfaceSpec, task: str) -> None:
    """Raise InvalidInputError, with the trigger's and the task's name, for a trigger that could start no run."""
    where = f"trigger {spec.name!r} of {task}"
    if spec.cron and spec.every:
        raise InvalidInputError(f"{where} has a cron table and an interval; it can have one of them")
    if spec.cron:
        _check_cron(spec, where)
    if len(spec.inputs) > INLINE_LIMIT:
        raise InvalidInputError(
            f"{where} has inputs of {len(spec.inputs):,} bytes; the limit is {INLINE_LIMIT:,} bytes"
        )
    declared = {each.name: each for each in interface.inputs}
    try:
        given = msgspec.json.decode(spec.inputs, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise InvalidInputError(f"{where}: its inputs are not a JSON object") from None
    for name in (*given, *spec.time_inputs):
        if name not in declared:
            raise InvalidInputError(f"{where} gives the input {name!r}, which the task does not have")
    for name in spec.time_inputs:
        if not _takes_time(declared[name].schema):
            raise InvalidInputError(f"{where} gives {name!r} a time; its type is {declared[name].type}, not datetime")
    missing = [name for name, each in declared.items() if each.required and name not in (*given, *spec.time_inputs)]
    if missing:
        raise InvalidInputError(f"{where} lacks the input {missing[0]!r}, which has no default")


def _takes_time(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") == "date-time" or any(map(_takes_time, schema.get("anyOf", ())))


def _check_cron(spec: TriggerSpec, where: str) -> None:
    try:
        _zone(spec)
    except UNREADABLE:
        raise InvalidInputError(
            f"{where}: {spec.timezone!r} is not a time zone; write one as 'Europe/Berlin', or 'UTC'"
        ) from None
    if len(spec.cron.split()) != 5 and spec.cron not in _NICKNAMES:
        raise InvalidInputError(
            f"{where}: {spec.cron!r} is not a cron table: it has five fields, minute, hour, day, month and weekday"
        )
    try:
        upcoming = next(after(spec, 0, 0), None)
    except CronSimError as error:
        raise InvalidInputError(f"{where}: {spec.cron!r} is not a cron table: {error}") from None
    if upcoming is None:
        raise InvalidInputError(f"{where}: {spec.cron!r} is never due")


def date_time(moment: float) -> dt.datetime:
    """In UTC."""
    return dt.datetime.fromtimestamp(moment, dt.UTC)


def _zone(spec: TriggerSpec) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(spec.timezone)


def after(spec: TriggerSpec, since: float, moment: float) -> Iterator[float]:
    """The times after `moment` at which the trigger is due. `since` is when it was activated."""
    if spec.cron:
        begin = dt.datetime.fromtimestamp(moment, _zone(spec))
        expression = _NICKNAMES.get(spec.cron, spec.cron)
        return (due.timestamp() for due in CronSim(expression, begin))
    if spec.every:
        return _every(spec.every * 60, since if spec.start is None else spec.start, moment)
    return iter(())


def _every(step: int, start: float, moment: float) -> Iterator[float]:
    number = max(0 if start > moment else 1, int((moment - start) // step) + 1)
    while True:
        yield start + number * step
        number += 1


def due(spec: TriggerSpec, since: float, last: float | None, now: float, missed: str) -> list[float]:
    """The times for which runs are to be started now; `last` is the last one for which that was done.

    `missed`: what becomes of times that passed while nobody could start a run. `latest`: a run is started for the last
    of them; `all`: for each of the last MOST; `skip`: for none.

    A clock that was set back does not stop a trigger: what is due twice for the same time has the same run.
    """
    begin = min(now, since if last is None else max(since, last))
    wanted = MOST if missed == "all" else 1
    for window in _WINDOWS:
        found = _between(spec, since, max(begin, now - window), now)
        if now - window <= begin or len(found) >= wanted:
            break
    on_time = [moment for moment in found if now - moment <= GRACE]
    if missed == "all":
        return list(found)
    return on_time if missed == "skip" else on_time or list(found)[-1:]


def _between(spec: TriggerSpec, since: float, begin: float, now: float) -> deque[float]:
    return deque(itertools.takewhile(lambda moment: moment <= now, after(spec, since, begin)), MOST)

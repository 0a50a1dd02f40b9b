"""When triggers are due: cron tables in time zones with daylight saving, intervals, and what was missed."""

from __future__ import annotations

import datetime as dt
import itertools
import time
import zoneinfo

import pytest

from flyte.wire import TriggerSpec
from tarmac import schedule


def moment(text: str, zone: str = "UTC") -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()


def shown(moments: list[float], zone: str) -> list[str]:
    return [dt.datetime.fromtimestamp(each, zoneinfo.ZoneInfo(zone)).strftime("%m-%d %H:%M%z") for each in moments]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # the clocks go forward at 02:00: half past two does not exist, and is due at the end of the gap
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", ["03-29 03:00+0200", "03-30 02:30+0200"]),
        ("0 * * * *", "Europe/Berlin", "2026-03-29 01:30", ["03-29 03:00+0200", "03-29 04:00+0200"]),
        # they go back at 03:00: half past two exists twice, and is due once; what is due each half hour follows time
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25 01:50",
            ["10-25 02:00+0200", "10-25 02:30+0200", "10-25 02:00+0100", "10-25 02:30+0100"],
        ),
        ("0 9 * * 1-5", "America/New_York", "2026-03-06 12:00", ["03-09 09:00-0400", "03-10 09:00-0400"]),
        ("0 0 29 2 *", "UTC", "2026-01-01 00:00", ["02-29 00:00+0000"]),
        ("0 0 1 * *", "Asia/Kolkata", "2026-12-30 00:00", ["01-01 00:00+0530", "02-01 00:00+0530"]),
        ("@weekly", "UTC", "2026-11-30 07:00", ["12-06 00:00+0000", "12-13 00:00+0000"]),
        ("0 12 L * *", "UTC", "2026-02-01 00:00", ["02-28 12:00+0000", "03-31 12:00+0000"]),
    ],
)
def test_a_cron_table_is_due_at_the_times_of_its_zone(cron: str, zone: str, after: str, expected: list[str]) -> None:
    spec = TriggerSpec(name="t", cron=cron, timezone=zone)
    found = itertools.islice(schedule.after(spec, 0, moment(after, zone)), len(expected))
    assert shown(list(found), zone) == expected


def test_an_interval_is_due_each_time_that_it_has_passed_since_its_start() -> None:
    spec = TriggerSpec(name="t", every=90, start=moment("2026-05-01 10:00"))
    assert shown(list(itertools.islice(schedule.after(spec, 0, moment("2026-05-01 09:00")), 2)), "UTC") == [
        "05-01 10:00+0000",
        "05-01 11:30+0000",
    ]
    assert shown(list(itertools.islice(schedule.after(spec, 0, moment("2026-05-01 11:30")), 1)), "UTC") == [
        "05-01 13:00+0000"
    ]
    assert list(schedule.after(TriggerSpec(name="by-hand"), 0, 0)) == []


def test_a_year_of_missed_minutes_is_not_gone_through_minute_by_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, between = [], schedule._between

    def counted(spec: TriggerSpec, since: float, begin: float, now: float) -> object:
        looked.append(now - begin)
        return between(spec, since, begin, now)

    monkeypatch.setattr(schedule, "_between", counted)
    spec, now = TriggerSpec(name="t", cron="* * * * *"), time.time()
    year = now - 365 * 86_400
    assert len(schedule.due(spec, year, None, now, "latest")) in (1, 2)
    assert len(schedule.due(spec, year, None, now, "all")) == schedule.MOST
    assert max(looked) <= 86_400
    yearly = TriggerSpec(name="t", cron="0 0 1 1 *")
    assert len(schedule.due(yearly, year, None, now, "latest")) == 1

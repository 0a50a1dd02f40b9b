"""What the platform came up without, as `flyte up` and `flyte status` tell of it; and a part that dies over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarmac import aside
from tarmac.aside import LeftOut
from tarmac.cli.status import left_out, table
from tarmac.home import Home
from tarmac.supervisor.part import START_ATTEMPTS, Part, PartRunner

LEFT = LeftOut("run r1\x1b[2J", "it cannot be loaded: ValueError: x", "It has failed")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home(tmp_path / "h")
    place.prepare()
    return place


def test_what_is_left_out_is_told_until_its_part_says_otherwise(home: Home) -> None:
    assert aside.read(home) == []
    aside.write(home, "control", [LEFT])
    aside.write(home, "gateway", [LeftOut("a route of app a/b/c", "odd", "Deploy it again")])
    assert [each.what for each in aside.read(home)] == [LEFT.what, "a route of app a/b/c"]
    aside.write(home, "gateway", [])
    assert aside.read(home) == [LEFT]
    aside.clear(home)
    assert aside.read(home) == []


def test_status_tells_of_it_without_what_a_terminal_would_obey(home: Home) -> None:
    aside.write(home, "control", [LEFT])
    state = {"running": True, "home": str(home.path), "left_out": left_out(home)}
    assert table(state).splitlines()[1] == (
        "  left out: run r1?[2J: it cannot be loaded: ValueError: x. It has failed."
    )


async def test_a_part_that_sets_something_aside_is_given_as_many_starts_again(home: Home) -> None:
    async def never(part: Part, log: Path) -> None:
        raise AssertionError

    runner = PartRunner(Part("control", ("x",)), home, never)  # type: ignore[arg-type]
    home.aside.mkdir()
    deaths = home.aside / "control.deaths"
    for restarts in range(1, 10):
        if restarts in (3, 5):
            deaths.write_text('{"run a": 2}' if restarts == 3 else '{"run a": 2, "run b": 2}')
        runner.restarts = restarts
        runner._judge()
        assert runner.start_failed.is_set() == (restarts >= 5 + START_ATTEMPTS), restarts

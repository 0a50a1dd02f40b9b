"""A control plane comes up whatever one stored row is like; it leaves that one out, and says so."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.wire import ActionPhase, AppStatus, DeploymentPhase
from tarmac import aside
from tarmac.control.live import Pool
from tarmac.home import Home
from tarmac.starting import Starting
from tests.tarmac.fake_agent import Act
from tests.tarmac.house import House, eventually, open_house, task
from tests.tarmac.test_control_apps import DEFAULT, app, deploy, deployed, ended, shown


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


async def forever(act: Act) -> Any:
    await asyncio.sleep(60)


async def linked(house: House) -> None:
    """Wait until all that is there has a link, so that none is cut off while it is made."""
    dispatch = house.control.dispatch
    assert await eventually(
        lambda: house.control.agent.present and all(worker.link is not None for worker in dispatch.workers.values())
    )


async def with_rows_changed(house: House, *statements: str) -> None:
    """Restart over a database that somebody has changed."""
    await linked(house)
    await house.down()
    with sqlite3.connect(house.home.database) as database:
        for statement in statements:
            assert database.execute(statement).rowcount == 1, statement
    database.close()
    await house.up()
    await linked(house)


@pytest.mark.parametrize(
    "change",
    [
        "update runs set request = '{' where name = 'bad'",
        "update tasks set spec = '{}' where name = 'env.tree'",
        "update actions set spec = '[]' where run = 'bad'",
    ],
)
async def test_a_run_that_cannot_be_loaded_fails_with_the_reason_and_the_others_go_on(
    house: House, change: str
) -> None:
    house.behave = forever
    await house.run("tree", name="bad")
    good = await house.run("add", name="good")
    await with_rows_changed(house, change)
    bad = await house.control.runs.wait("bad", 5)
    assert bad.phase is ActionPhase.FAILED
    assert bad.error is not None
    assert "the platform could not take up this run after a restart: it cannot be loaded" in bad.error.message
    [told] = aside.read(house.home)
    assert told.what == "run bad"
    assert (await house.control.runs.get(good.name)).phase in (ActionPhase.QUEUED, ActionPhase.RUNNING)
    aside.clear(house.home)  # as the next `flyte up` does
    await house.restart()
    await linked(house)
    assert aside.read(house.home) == []


async def test_a_row_that_cannot_even_be_read_is_left_out(house: House) -> None:
    house.behave = forever
    await house.run("tree", name="bad")
    await house.run("add", name="good")
    await with_rows_changed(house, "update runs set labels = 'no JSON' where name = 'bad'")
    [told] = aside.read(house.home)
    assert (told.what, "its row cannot be read" in told.why) == ("run bad", True)
    assert (await house.control.runs.get("good")).phase in (ActionPhase.QUEUED, ActionPhase.RUNNING)


async def test_an_app_that_cannot_be_loaded_has_failed_until_another_version_is_deployed(house: House) -> None:
    await deployed(house, app("bad"), app("good"))
    await with_rows_changed(house, "update app_versions set spec = '{}' where name = 'bad'")
    bad, good = await shown(house, "bad"), await shown(house, "good")
    assert bad.status is AppStatus.FAILED
    assert good.status in (AppStatus.SLEEPING, AppStatus.ACTIVE)
    assert "it cannot be loaded: ValidationError" in bad.message
    assert "deploy another version of it, or delete it" in bad.message
    [told] = aside.read(house.home)
    assert (told.what, "flyte delete app bad" in told.mend) == ("app flytesnacks/development/bad@v1", True)
    done = await deployed(house, app("bad"), version="v2")
    assert done.phase is DeploymentPhase.SUCCEEDED
    await house.restart()
    await linked(house)
    assert aside.read(house.home) == []


async def test_an_app_that_ended_the_control_plane_twice_can_be_deleted(house: House) -> None:
    await deployed(house, app("bad"))
    await ended_while_loading(house, "app flytesnacks/development/bad@v1", 2)
    bad = await shown(house, "bad")
    assert bad.status is AppStatus.FAILED
    assert "loading it has ended the control plane 2 times in a row" in bad.message
    await house.control.apps.delete(wire.AppId(*DEFAULT, "bad"), "owner")
    await house.restart()
    await linked(house)
    assert aside.read(house.home) == []


async def test_a_deployment_that_cannot_be_taken_back_has_failed(house: House) -> None:
    begun = await deploy(house, app("a"))
    await ended(house, begun)
    await with_rows_changed(house, f"update deployments set record = '{{}}', phase = 'running' where id = '{begun.id}'")
    found = await house.control.deployments.get(begun.id)
    assert (found.phase, "could not be taken back" in str(found.error)) == (DeploymentPhase.FAILED, True)
    assert [told.what for told in aside.read(house.home)] == [f"deployment {begun.id}"]


async def ended_while_loading(house: House, item: str, times: int) -> None:
    """Restart as if that many processes had ended while they loaded it."""
    await linked(house)
    await house.down()
    (house.home.aside / "control.deaths").write_bytes(msgspec.json.encode({item: times - 1}))
    (house.home.aside / "control.at").write_bytes(item.encode().ljust(1024))
    await house.up()
    await linked(house)


async def test_what_ended_the_control_plane_twice_is_left_out_at_the_third_start(house: House) -> None:
    house.behave = forever
    await house.run("tree", name="bad")
    await ended_while_loading(house, "run bad", 1)
    assert not (await house.control.runs.get("bad")).phase.is_terminal
    assert Starting(house.home, "control").deaths("run bad") == 0  # it could be loaded after all
    await ended_while_loading(house, "run bad", 2)
    done = await house.control.runs.wait("bad", 5)
    assert done.error is not None
    assert "loading it has ended the control plane 2 times in a row" in done.error.message
    assert [told.what for told in aside.read(house.home)] == ["run bad"]


def test_ends_are_counted_in_a_row_and_forgotten_with_what_is_gone(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.prepare()
    ended = []
    for deaths in range(3):
        starting = Starting(home, "part")
        assert starting.deaths("run é") == deaths
        with starting.loading("run ok"):
            pass
        starting.loaded("run ok")
        ended.append(starting.loading("run é"))
        ended[-1].__enter__()  # and there the process ends
    last = Starting(home, "part")
    assert last.deaths("run é") == 3
    with last.loading("run ok"):
        pass
    last.close()
    assert Starting(home, "part").deaths("run é") == 0


# ------------------------------------------------------------------------------------------------ while it runs


async def test_a_stored_concurrency_of_zero_is_one(house: House) -> None:
    odd = task("odd", environment={"reuse": wire.ReuseSpec(min_replicas=0, max_replicas=1, concurrency=0, idle_ttl=0)})
    await with_spec(house, odd)
    done = await house.result("odd", x=4)
    assert (done.phase, bytes(done.outputs or b"")) == (ActionPhase.SUCCEEDED, b"[5]")


async def with_spec(house: House, spec: wire.TaskSpec) -> None:
    """Register a task as if nobody had checked it."""
    await house.control.deployments.start(wire.DeployRequest(version="v1", root="/", tasks=[task("odd")]), "owner")
    await linked(house)
    await house.down()
    with sqlite3.connect(house.home.database) as database:
        database.execute("update tasks set spec = ? where name = 'env.odd'", (msgspec.json.encode(spec),))
    database.close()
    await house.up()
    await linked(house)


async def test_an_error_in_giving_out_fails_that_pools_actions_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    supply = house.control.dispatch.supply
    missing = supply.missing

    def odd(pool: Pool, free: int) -> int:
        if pool.reuse is not None:
            raise ZeroDivisionError("a pool nobody foresaw")
        return missing(pool, free)

    monkeypatch.setattr(supply, "missing", odd)
    bad, good = await asyncio.gather(house.result("reused"), house.result("add"))
    assert good.phase is ActionPhase.SUCCEEDED
    assert bad.phase is ActionPhase.FAILED
    assert bad.error is not None
    assert "ZeroDivisionError: a pool nobody foresaw" in bad.error.message


async def test_an_error_in_taking_up_a_frame_fails_the_action_that_it_speaks_of(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = house.control.runs.actions
    finished = actions.finished

    def odd(worker: Any, frame: wire.Finished) -> None:
        if frame.run == "bad":
            raise KeyError("a frame nobody foresaw")
        finished(worker, frame)

    monkeypatch.setattr(actions, "finished", odd)
    bad, good = await asyncio.gather(house.result("add", name="bad"), house.result("add", name="good"))
    assert (bad.phase, good.phase) == (ActionPhase.FAILED, ActionPhase.SUCCEEDED)
    assert bad.error is not None
    assert "a frame nobody foresaw" in bad.error.message

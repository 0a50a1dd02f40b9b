"""Names that no rule allows, and that a database has from before there were rules: listed, looked at and deleted."""

from __future__ import annotations

import contextlib
import html
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from flyte import wire
from flyte.names import name_in_path, path_part
from tarmac import settings as all_settings
from tarmac.api import make_app
from tarmac.auth import Authenticator
from tarmac.home import Home
from tests.tarmac.house import House, open_house, task

NAMES = ("a/b", "/", "", ".", "..", "../../../../x", "~", "~2e2e", "a\\b", "a\nb", "é ü", "%2F", "?a=b#c", "x" * 300)


@pytest.mark.parametrize("name", [*NAMES, "app", "env.add", "\udcff"])
def test_every_name_has_one_part_of_a_path(name: str) -> None:
    part = path_part(name)
    assert part not in ("", ".", "..")
    assert part.isascii()
    assert "/" not in part
    url = httpx.URL(f"http://localhost/v1/{part}/logs")
    assert url.raw_path == f"/v1/{part}/logs".encode()
    if name != "\udcff":
        assert name_in_path(url.path.split("/")[2]) == name or "/" in url.path.removeprefix("/v1/").removesuffix(
            "/logs"
        )


@contextlib.asynccontextmanager
async def asking(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API, as its owner, and of the console's pages."""
    control = house.control
    authenticator = Authenticator(
        house.home.token(), control.identities, control.keys.by_digest, control.ended_sessions, control.keys.used
    )
    app = make_app(control, authenticator, all_settings.load(house.home.path, house.environ))
    transport = httpx.ASGITransport(app=cast(Any, app), raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {house.home.token()}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A platform over a database in which an app, a secret and a task have each of the names."""
    async with open_house(tmp_path) as house:
        apps = [
            wire.AppSpec(
                name=f"old-{number}",
                environment=wire.EnvironmentSpec(name=f"old-{number}", kind="app"),
                kind="command",
                argv=["x"],
            )
            for number in range(len(NAMES))
        ]
        tasks = [task(f"old_{number}") for number in range(len(NAMES))]
        deployment = wire.DeployRequest(version="v1", root="/", apps=apps, tasks=tasks)
        begun = await house.control.deployments.start(deployment, "owner")
        await house.control.deployments._tasks[begun.id]
        for number in range(len(NAMES)):
            secret = wire.SecretRequest(name=f"old_{number}", value="x")
            await house.control.secrets.create(secret, "owner")
        await house.down()
        rename(house.home.database)
        await house.up()
        yield house


def rename(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as rows, rows:
        for number, name in enumerate(NAMES):
            for table, was in (("apps", "old-"), ("app_versions", "old-"), ("secrets", "old_")):
                rows.execute(f"update {table} set name = ? where name = ?", (name, f"{was}{number}"))
            for table in ("tasks", "current_tasks"):
                rows.execute(f"update {table} set name = ? where name = ?", (name, f"env.old_{number}"))


async def test_they_are_listed_looked_at_and_deleted(house: House) -> None:
    async with asking(house) as client:
        for kind in ("apps", "secrets", "tasks"):
            listed = {each["name"] for each in (await client.get(f"/v1/{kind}", params={"limit": 1000})).json()}
            assert set(NAMES) <= listed, kind
            for name in NAMES * 2:
                answer = await client.get(f"/v1/{kind}/{path_part(name)}")
                assert (answer.status_code, answer.json().get("name")) == (200, name), (kind, answer.text)
        for name in NAMES:
            for part in ("logs", "requests"):
                answer = await client.get(f"/v1/apps/{path_part(name)}/{part}")
                assert answer.status_code == 200, (name, answer.text)
            for kind in ("apps", "secrets"):
                answer = await client.delete(f"/v1/{kind}/{path_part(name)}")
                assert answer.status_code == 204, (kind, name, answer.text)
                assert (await client.get(f"/v1/{kind}/{path_part(name)}")).status_code == 404


async def test_every_link_of_the_console_leads_there(house: House) -> None:
    place = "/v2/domain/development/project/flytesnacks"
    async with asking(house) as client:
        client.headers["Accept"] = "text/html"
        for kind in ("apps", "tasks"):
            listed = (await client.get(f"{place}/{kind}")).text
            for name in NAMES:
                link = f"{place}/{kind}/{path_part(name)}"
                assert f'"{link}"' in listed, (kind, name)
                answer = await client.get(link)
                assert answer.status_code == 200, (kind, name, answer.text)
                assert f"<h1>{html.escape(name)}" in answer.text, (kind, name)


async def test_the_links_that_the_api_tells_lead_there(house: House) -> None:
    async with asking(house) as client:
        told = [app["console"] for app in (await client.get("/v1/apps?limit=1000")).json()]
        told += [task["url"] for task in (await client.get("/v1/tasks?limit=1000")).json()]
        assert len(told) > 2 * len(NAMES)
        for link in told:
            assert (await client.get(httpx.URL(link).raw_path.decode())).status_code == 200, link


def test_what_such_an_app_writes_is_in_the_platforms_folder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for name in NAMES:
        log = home.replica_log(wire.Scope().app(name), "r-1").resolve()
        assert log.parent.parent == home.logs / "apps", name
    assert home.access_log(wire.AppId("p", "d", "app")).parent.name == "p.d.app"


async def test_text_that_is_not_utf_8_is_shown_with_escapes_and_hides_nothing_else(tmp_path: Path) -> None:
    """A database that was written by hand, or damaged: the platform comes up, and what is there can be deleted."""
    async with open_house(tmp_path) as house:
        for name in ("bad", "good"):
            await house.control.keys.create(wire.KeyRequest(name=name), "owner")
            await house.control.secrets.create(wire.SecretRequest(name=name, value="x"), "owner")
            await house.control.projects.create(wire.Project(id=name, name=name), "owner")
        await house.control.deployments.start(
            wire.DeployRequest(version="v1", root="/", tasks=[task("bad"), task("good")]), "owner"
        )
        await house.down()
        with contextlib.closing(sqlite3.connect(house.home.database)) as rows, rows:
            for table, name in (
                ("keys", "bad"),
                ("secrets", "bad"),
                ("projects", "bad"),
                ("tasks", "env.bad"),
                ("current_tasks", "env.bad"),
            ):
                assert rows.execute(f"update {table} set name = cast(x'ffc3' as text) where name = ?", (name,)).rowcount
        await house.up()
        async with asking(house) as client:
            for kind in ("keys", "secrets", "projects", "tasks"):
                listed = {each["name"] for each in (await client.get(f"/v1/{kind}")).json()}
                assert {"\\xff\\xc3", "env.good" if kind == "tasks" else "good"} <= listed, kind
            await client.delete(
                f"/v1/keys/{path_part(chr(92) + 'xff' + chr(92) + 'xc3')}"
            )  # no gateway is here that could confirm it
            assert {each["name"] for each in (await client.get("/v1/keys")).json()} == {"good"}

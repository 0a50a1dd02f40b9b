"""No list asks the database once for each of its rows: with thirty rows it takes the queries that it takes with three.

The lists are all of the API's and of the console's, on both stores. Some are kept in memory, and ask nothing.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from flyte import wire
from tarmac.auth import Authenticator
from tarmac.store import CacheRow, Change, ImageRow
from tarmac.store.postgres import PostgresSession
from tarmac.store.reader import Reader
from tarmac.store.sqlite import SqliteSession
from tests.contract.conftest import Place
from tests.tarmac.api_server import address_of, answering
from tests.tarmac.fake_agent import Act
from tests.tarmac.house import House, eventually, open_house, task

CONSOLE = "/v2/domain/development/project/flytesnacks"
LISTS = {
    "/v1/runs": 2,
    "/v1/runs?phase=succeeded,failed": 3,
    "/v1/runs?label=all=yes": 2,
    "/v1/runs/tree-{rows}/actions": 2,
    "/v1/runs/tree-{rows}/actions?parent=a0&phase=succeeded,failed": 2,
    "/v1/runs/tree-{rows}/logs": 4,
    "/v1/tasks": 1,
    "/v1/apps": 0,
    "/v1/images": 0,
    "/v1/cache": 1,
    "/v1/secrets": 1,
    "/v1/keys": 0,
    "/v1/projects": 1,
    f"{CONSOLE}/runs": 3,
    f"{CONSOLE}/runs/tree-{{rows}}": 9,
    f"{CONSOLE}/runs/tree-{{rows}}?phase=succeeded": 7,
    f"{CONSOLE}/tasks": 2,
    f"{CONSOLE}/apps": 1,
    f"{CONSOLE}/images": 1,
}
"""Address → the most queries that it may take."""


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every query that is read with from now on; the writer's are left out."""
    made: list[str] = []

    def note(session: type[SqliteSession] | type[PostgresSession]) -> None:
        rows = session.rows

        def noted(self: Any, sql: str, values: Any = None) -> list[Any]:
            if isinstance(threading.current_thread(), Reader):
                made.append(sql)
            return rows(self, sql, values)

        monkeypatch.setattr(session, "rows", noted)

    note(SqliteSession)
    note(PostgresSession)
    return made


@pytest.fixture
async def house(place: Place, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, TARMAC_DATABASE_URL=place.url, TARMAC_SLOTS="8") as opened:
        yield opened


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    control, token = house.control, house.home.token()
    authenticator = Authenticator(
        token, control.identities, control.keys.by_digest, control.ended_sessions, control.keys.used
    )
    listener = socket.create_server(("127.0.0.1", 0))
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        answering(listener, control, authenticator),
        httpx.AsyncClient(base_url=address_of(listener), headers=headers, timeout=30) as client,
    ):
        yield client


async def _fill(house: House, first: int, rows: int) -> None:
    """Rows number `first` to `rows` of everything, and a run with that many actions."""
    control, numbers = house.control, range(first, rows)

    async def behave(act: Act) -> Any:
        if act.assign.task == "env.tree":
            for n in range(rows):
                await act.call("env.add", x=n)

    house.behave = behave
    await _deploy(house, first, rows)
    await house.result("tree", name=f"tree-{rows}", labels={"all": "yes"})
    for n in numbers:
        await house.result("add", labels={"all": "yes"}, x=n)
        await control.secrets.create(wire.SecretRequest(name=f"S{n}", value="v"), "owner")
        await control.keys.create(wire.KeyRequest(name=f"k{n}"), "owner")
        await control.projects.create(wire.Project(id=f"p{n}"), "owner")
    await house.store.write(Change(cache=tuple(map(_cached, numbers)), images=tuple(map(_image, numbers))))
    await control.images.restore()


async def _deploy(house: House, first: int, rows: int) -> None:
    tasks = [task(f"t{n}") for n in range(first, rows)]
    apps = [
        wire.AppSpec(
            name=f"app-{n}",
            environment=wire.EnvironmentSpec(name=f"app-{n}", kind="app"),
            kind="command",
            argv=["x"],
            scaling=wire.ScalingSpec(min_replicas=0),
        )
        for n in range(first, rows)
    ]
    request = wire.DeployRequest(version=f"v{rows}", root="/", tasks=tasks, apps=apps)
    await house.control.deployments.start(request, "owner")
    assert await eventually(lambda: not house.control.deployments._tasks)


def _cached(n: int) -> CacheRow:
    scope = (wire.DEFAULT_PROJECT, wire.DEFAULT_DOMAIN)
    return CacheRow(f"key{n}", *scope, "env.add", "1", "tree-3", "a0", b"[1]", None, 100.0 + n, 1.0)


def _image(n: int) -> ImageRow:
    record = wire.ImageRecord(id=f"image{n}", state="ready", key=f"key{n}", python="3.12.1", used=100.0 + n)
    return ImageRow(record.id, msgspec.json.encode(record), record.used)


async def test_a_list_takes_as_many_queries_for_thirty_rows_as_for_three(
    house: House, client: httpx.AsyncClient, queries: list[str]
) -> None:
    counts: dict[str, list[int]] = {path: [] for path in LISTS}
    for first, rows in ((0, 3), (3, 30)):
        await _fill(house, first, rows)
        for path in LISTS:
            queries.clear()
            answer = await client.get(path.format(rows=rows))
            assert answer.status_code == 200, answer.text
            counts[path].append(len(queries))
            assert _rows(answer) >= rows, path
    assert {path: few for path, (few, _) in counts.items()} == {path: many for path, (_, many) in counts.items()}
    assert {path: many for path, (_, many) in counts.items() if many > LISTS[path]} == {}


def _rows(answer: httpx.Response) -> int:
    """How many rows the list has."""
    if answer.headers["Content-Type"].startswith("application/json"):
        return len(answer.json())
    if "logs" in str(answer.url):
        return 1_000
    return answer.text.count("<tr") + answer.text.count('<li class="row ')

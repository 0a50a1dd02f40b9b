"""The console as a browser has it: signed in, with its cookie."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from benchmarks import house
from benchmarks.sample import Sample


@asynccontextmanager
async def signed_in(env: dict[str, str]) -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)  # the console's address is a number
    async with aiohttp.ClientSession(house.endpoint(env), cookie_jar=jar) as session:
        form = {"token": house.token(env), "next": "/"}
        told = {"Origin": house.endpoint(env)}
        async with session.post("/login", data=form, headers=told, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
        yield session


async def page(session: aiohttp.ClientSession, path: str, expect: str, sample: Sample) -> None:
    """Time one page, which has to contain `expect`."""
    with sample.timed():
        async with session.get(path, allow_redirects=False) as answer:
            text = await answer.text()
    assert answer.status == 200, (path, answer.status, text[:300])
    assert expect in text, (path, expect)


def of_run(run: dict[str, Any]) -> str:
    """The path of a run's page."""
    return f"{runs(run)}/{run['name']}"


def runs(run: dict[str, Any]) -> str:
    """The path of the list that the run stands in."""
    return f"/v2/domain/{run['domain']}/project/{run['project']}/runs"

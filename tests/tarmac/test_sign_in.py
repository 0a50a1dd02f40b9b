"""Signing in: what is taken before a key is known, where it leads to, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from .api_server import KEY, OWNER, Server, serving, told


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


def stranger(server: Server) -> httpx.AsyncClient:
    return server.client(None, Origin=server.address, Accept="text/html")


FORM = {"content-type": "application/x-www-form-urlencoded"}


async def test_the_sign_in_form_may_be_8_kib_long_and_not_more(server: Server) -> None:
    client = stranger(server)
    assert (await client.post("/login", content=b"token=" + b"x" * 8000, headers=FORM)).status_code == 401
    assert (await client.post("/login", content=b"a=1&" * 2049, headers=FORM)).status_code == 413

    async def without_a_length() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"a=1&" * 100

    assert (await client.post("/login", content=without_a_length(), headers=FORM)).status_code == 413


async def test_a_form_of_the_console_has_2_mib_and_1000_fields_at_most(server: Server) -> None:
    path = "/v2/domain/development/project/flytesnacks/tasks/env.add"
    browser = server.browser()
    assert (await browser.post(path, content=b"input.x=" + b"1" * (2 << 20), headers=FORM)).status_code == 413
    many = await browser.post(path, content=b"a=1&" * 1000, headers=FORM)
    assert (many.status_code, "more than 1,000 fields" in many.text) == (413, True)
    assert (await browser.post(path, content=b"input.x=\xff", headers=FORM)).status_code == 422
    assert (await browser.post(path, content=b"input.x=1", headers=FORM)).status_code == 303


async def test_signing_in_for_an_app_leads_to_its_port_on_the_same_host(server: Server) -> None:
    form = {"token": OWNER, "app": "30107", "next": "/page?x=1"}
    answer = await stranger(server).post("/login", data=form)
    assert answer.status_code == 200
    assert 'url=http://127.0.0.1:30107/page?x=1"' in answer.text
    assert "tarmac_session" in answer.cookies


@pytest.mark.parametrize(
    ("app", "place"),
    [("22", "/x"), ("99999999", "/x"), ("-1", "/x"), ("@evil.example", "/x"), ("30107", "//evil.example")],
)
async def test_signing_in_leads_to_apps_and_nowhere_else(server: Server, app: str, place: str) -> None:
    answer = await stranger(server).post("/login", data={"token": OWNER, "app": app, "next": place})
    assert "evil.example" not in answer.text + answer.headers.get("location", "")
    assert ":22" not in answer.text


async def test_the_form_keeps_the_app_that_the_person_wanted(server: Server) -> None:
    page = await stranger(server).get("/login", params={"app": 30107, "next": "/page"})
    assert 'name="app" value="30107"' in page.text
    again = await stranger(server).post("/login", data={"token": "wrong", "app": "30107", "next": "/page"})
    assert (again.status_code, 'name="app" value="30107"' in again.text) == (401, True)


async def test_a_code_signs_in_also_from_a_file(server: Server) -> None:
    """A file's page has no origin, and whoever has the code needs none."""
    code = (await server.client().post("/v1/login-codes")).json()["code"]
    answer = await server.client(None, Origin="null").post("/login", data={"code": code, "next": "/v2"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/v2")
    used = await server.client(None, Origin="null").post("/login", data={"code": code})
    assert used.status_code == 401


async def test_signing_out_ends_the_session_for_every_copy_of_it(server: Server) -> None:
    browser, thief = server.browser(), server.client(None)
    thief.cookies.set("tarmac_session", browser.cookies["tarmac_session"])
    assert (await thief.get("/v1/me")).status_code == 200
    assert (await browser.post("/logout")).status_code == 303
    assert (await thief.get("/v1/me")).status_code == 401


async def test_a_session_makes_no_other_session(server: Server) -> None:
    browser = server.browser()
    browser.headers["Accept"] = "application/json"
    refused = await browser.post("/v1/login-codes")
    assert (refused.status_code, told(refused).code) == (403, "NotAllowedError")
    session = browser.cookies["tarmac_session"]
    assert (await stranger(server).post("/login", data={"token": session})).status_code == 401
    assert (await server.client(session).get("/v1/me")).status_code == 401


async def test_a_key_signs_in_and_its_session_ends_with_it(server: Server) -> None:
    client = stranger(server)
    assert (await client.post("/login", data={"token": KEY})).status_code == 303
    assert (await client.get("/v1/me")).json()["subject"] == "github"


async def test_a_large_form_from_a_stranger_holds_nobody_up(server: Server) -> None:
    """The whole of it is refused before it is read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(server.address).port or 0)
    head = f"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: {95 << 20}\r\n"
    writer.write(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\na=1&".encode())
    async with asyncio.timeout(10):
        assert b" 413 " in await reader.readline()
    writer.close()

"""Processes of the platform carry their identity to apps that ask for one, and to nothing else."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

from flyte.runtime import identity
from flyte.runtime.identity import HEADER

SEEN: list[str | None] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        SEEN.append(self.headers.get("Authorization"))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing of a test's requests is logged."""


@pytest.fixture
def address() -> Iterator[str]:
    SEEN.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


CALLS = {
    "httpx": "import httpx; httpx.get(url)",
    "httpx-async": (
        "import httpx, asyncio\nasync def f():\n async with httpx.AsyncClient() as c: await c.get(url)\n"
        "asyncio.run(f())"
    ),
    "requests": "import requests; requests.get(url)",
    "urllib": "import urllib.request; urllib.request.urlopen(url).close()",
    "aiohttp": (
        "import aiohttp, asyncio\nasync def f():\n async with aiohttp.ClientSession() as s:\n"
        "  async with s.get(url): pass\nasyncio.run(f())"
    ),
    "websockets": (
        "import websockets, asyncio\nasync def f():\n try:\n"
        "  async with websockets.connect(url.replace('http', 'ws')): pass\n"
        " except websockets.exceptions.InvalidStatus: pass\nasyncio.run(f())"
    ),
    "websockets-sync": (
        "import websockets.exceptions\nfrom websockets.sync.client import connect\ntry:\n"
        "  with connect(url.replace('http', 'ws')): pass\n"
        "except websockets.exceptions.InvalidStatus: pass"
    ),
}


def run(code: str, address: str, guarded: str) -> str:
    program = f"from flyte.runtime import identity; identity.install()\nurl = 'http://{address}/'\n{code}"
    env = {**os.environ, "FLYTE_GUARDED_APPS": json.dumps([guarded]), "FLYTE_API_KEY": "secret-key"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("client", CALLS)
def test_a_request_to_an_app_that_asks_for_a_key_carries_it(client: str, address: str) -> None:
    pytest.importorskip(client.partition("-")[0])
    assert run(CALLS[client], address, guarded=address) == ""
    assert SEEN == ["Bearer secret-key"]


@pytest.mark.parametrize("client", CALLS)
def test_a_request_to_anything_else_is_left_alone(client: str, address: str) -> None:
    pytest.importorskip(client.partition("-")[0])
    run(CALLS[client], address, guarded="127.0.0.1:1")
    assert SEEN == [None]


def test_a_key_of_the_users_own_is_left_alone(address: str) -> None:
    run("import httpx; httpx.get(url, headers={'authorization': 'Bearer mine'})", address, guarded=address)
    assert SEEN == ["Bearer mine"]


def test_a_blocking_websocket_of_a_version_without_reconnect_carries_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_GUARDED_APPS", '["127.0.0.1:7"]')
    monkeypatch.setenv("FLYTE_API_KEY", "k")
    module = ModuleType("websockets.sync.client")
    module.connect = lambda uri, *, additional_headers=None: additional_headers  # type: ignore[attr-defined]
    identity.CLIENTS["websockets.sync.client"](module)
    assert module.connect("ws://127.0.0.1:7/", additional_headers={"X": "1"}) == [("X", "1"), (HEADER, "Bearer k")]
    assert module.connect("ws://127.0.0.1:8/", additional_headers={"X": "1"}) == {"X": "1"}


def test_a_client_that_was_loaded_before_carries_it_too(address: str) -> None:
    program = f"import httpx\nfrom flyte.runtime import identity; identity.install()\nhttpx.get('http://{address}/')"
    env = {**os.environ, "FLYTE_GUARDED_APPS": json.dumps([address]), "FLYTE_API_KEY": "k"}
    subprocess.run([sys.executable, "-c", program], env=env, check=True, timeout=60)
    assert SEEN == ["Bearer k"]

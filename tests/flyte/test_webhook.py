"""The ready-made webhook app: its endpoints, its allow-lists, and that it acts as its caller."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import websockets.sync.client
from fastapi import FastAPI, WebSocket
from websockets.exceptions import InvalidStatus

from flyte import wire
from flyte.app.extras import FastAPIAppEnvironment, FastAPIPassthroughAuthMiddleware, FlyteWebhookAppEnvironment
from flyte.app.extras._webhook_endpoints import ENDPOINTS
from tests.flyte.fake_platform import TOKEN, FakePlatform

KEY = {"Authorization": f"Bearer {TOKEN}"}
hook = FlyteWebhookAppEnvironment(name="hook")


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Where the application answers, on a thread of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


@contextmanager
def client(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Iterator[httpx.Client]:
    monkeypatch.setenv("FLYTE_ENDPOINT", fake.endpoint)
    env = FlyteWebhookAppEnvironment(name="hook", **fields)
    with served(env.app) as address, httpx.Client(base_url=f"http://{address}", timeout=10) as made:
        yield made


def app_record(name: str, url: str) -> wire.App:
    return wire.App(
        project="flytesnacks", domain="development", name=name, version="v1", status=wire.AppStatus.ACTIVE, url=url
    )


def paths(env: FlyteWebhookAppEnvironment) -> set[str]:
    return {str(getattr(route, "path", "")) for route in env.app.routes}


def test_it_is_a_fastapi_app_with_all_endpoints() -> None:
    assert isinstance(hook, FastAPIAppEnvironment)
    assert {path for _, _, path in ENDPOINTS.values()} <= paths(hook)
    assert hook.app.title == "Flyte Webhook: hook"
    assert hook.type == "FlyteWebhookApp"
    assert hook.requires_auth
    spec = hook.spec(Path(__file__).parents[2])
    assert (spec.kind, spec.entry) == ("asgi", "tests.flyte.test_webhook:hook")
    assert spec.environment.image.packages == ["fastapi", "uvicorn"]


def test_it_is_narrowed_to_groups_or_single_endpoints() -> None:
    tasks = paths(FlyteWebhookAppEnvironment(name="a", endpoint_groups=["core", "task"]))
    assert "/health" in tasks
    assert "/run-task/{domain}/{project}/{name}" in tasks
    assert "/run/{name}" not in tasks
    single = paths(FlyteWebhookAppEnvironment(name="b", endpoints=["get_run"]))
    assert "/run/{name}" in single
    assert "/health" not in single
    with pytest.raises(ValueError, match="exclude each other"):
        FlyteWebhookAppEnvironment(name="c", endpoints=["me"], endpoint_groups=["core"])
    with pytest.raises(ValueError, match="no endpoint 'nope'"):
        FlyteWebhookAppEnvironment(name="d", endpoints=["nope"])
    with pytest.raises(ValueError, match="no group 'nope'"):
        FlyteWebhookAppEnvironment(name="e", endpoint_groups=["nope"])  # type: ignore[list-item]


def test_without_credentials_only_the_open_paths_answer(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(fake, monkeypatch) as http:
        assert http.get("/health").json() == {"status": "healthy"}
        assert http.get("/openapi.json").status_code == 200
        refused = http.get("/me")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"


def test_it_acts_with_the_callers_credentials(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(fake, monkeypatch) as http:
        assert http.get("/me", headers=KEY).json()["subject"] == "owner"
        assert http.get("/me", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_it_runs_a_task_and_tells_of_the_run(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.task("env.double", lambda x: 2 * x)
    with client(fake, monkeypatch) as http:
        answer = http.post("/run-task/development/flytesnacks/double", json={"x": 21}, headers=KEY)
        assert answer.status_code == 200, answer.text
        name = answer.json()["name"]
        assert answer.json()["url"]
        assert http.get(f"/run/{name}", headers=KEY).json()["name"] == name
        details = http.get(f"/run/{name}/io", headers=KEY).json()
        assert details["inputs"] == {"x": 21}
        assert http.post(f"/run/{name}/abort", headers=KEY).json()["status"] == "abort_requested"
        assert http.get("/task/development/flytesnacks/double", headers=KEY).json()["name"] == "env.double"


def test_what_there_is_not_is_answered_with_404(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(fake, monkeypatch) as http:
        assert http.post("/run-task/development/flytesnacks/none", json={}, headers=KEY).status_code == 404
        assert http.get("/run/none", headers=KEY).status_code == 404
        assert http.get("/app/none", headers=KEY).status_code == 404


def test_allow_lists_are_kept(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.task("env.double", lambda x: 2 * x)
    fake.apps["other"] = app_record("other", "http://127.0.0.1:1")
    with client(
        fake,
        monkeypatch,
        task_allowlist=["development/flytesnacks/allowed", "flytesnacks/too", "any"],
        app_allowlist=["another"],
        trigger_allowlist=["task/trigger"],
    ) as http:
        assert http.post("/run-task/development/flytesnacks/double", json={"x": 1}, headers=KEY).status_code == 403
        for name in ("allowed", "too", "any"):
            assert http.post(f"/run-task/development/flytesnacks/{name}", json={}, headers=KEY).status_code == 404
        assert http.post("/run-task/production/flytesnacks/allowed", json={}, headers=KEY).status_code == 403
        assert http.get("/app/other", headers=KEY).status_code == 403
        assert http.post("/trigger/task/other/activate", headers=KEY).status_code == 403
        assert http.post("/trigger/task/trigger/activate", headers=KEY).status_code == 404


def test_it_looks_after_other_apps_but_not_itself(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.apps["other"] = app_record("other", "http://127.0.0.1:1")
    with client(fake, monkeypatch) as http:
        assert http.get("/app/other", headers=KEY).json()["endpoint"] == "http://127.0.0.1:1"
        assert http.post("/app/other/deactivate", headers=KEY).json()["is_deactivated"]
        assert http.post("/app/other/activate", headers=KEY).json()["is_active"]
        for path in ("/app/hook/activate", "/app/hook/deactivate", "/app/hook/call?path=/"):
            assert http.post(path, headers=KEY).status_code == 400


def test_it_calls_another_app_for_its_caller(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    with backend() as (url, seen), client(fake, monkeypatch) as http:
        fake.apps["other"] = app_record("other", url)
        body = {"payload": {"x": 1}, "query_params": {"q": "a b"}}
        answer = http.post("/app/other/call?path=/predict&method=POST", json=body, headers=KEY)
        assert answer.json() == {"path": "/predict?q=a+b", "body": {"x": 1}}
        assert seen[0] == f"Bearer {TOKEN}"
        fake.apps["other"] = app_record("other", "http://127.0.0.1:1")
        assert http.post("/app/other/call?path=/", headers=KEY).status_code == 502


@contextmanager
def backend() -> Iterator[tuple[str, list[str | None]]]:
    """A small server, and the credentials it was called with."""
    seen: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers["Authorization"])
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps({"path": self.path, "body": body}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_images_and_models(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(fake, monkeypatch) as http:
        built = http.post("/build-image?python_version=3.12&name=mine", headers=KEY)
        assert built.json()["uri"].startswith("mine:")
        assert http.post("/build-image?python_version=three", headers=KEY).status_code == 422
        assert http.post("/prefetch/hf-model?repo=a/b", headers=KEY).status_code == 501


def test_the_middleware_takes_other_headers_and_guards_web_sockets() -> None:
    app = FastAPI()
    extract = FastAPIPassthroughAuthMiddleware.extract_custom_header("X-Api-Key")
    app.add_middleware(FastAPIPassthroughAuthMiddleware, header_extractors=[extract], excluded_paths={"/open"})

    @app.get("/open")
    def open_() -> str:
        return "open"

    @app.get("/who")
    def who() -> list[Any]:
        from flyte._client.transport import forwarded

        return list(forwarded.get() or ())

    @app.websocket("/ws")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    with served(app) as address:
        url = f"http://{address}"
        assert httpx.get(f"{url}/open").json() == "open"
        assert httpx.get(f"{url}/who").status_code == 401
        assert httpx.get(f"{url}/who", headers={"x-api-key": "k"}).json() == [["x-api-key", "k"]]
        connect = websockets.sync.client.connect
        with connect(f"ws://{address}/ws", additional_headers={"x-api-key": "k"}) as websocket:
            assert websocket.recv() == "hello"
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://{address}/ws")
        assert refused.value.response.status_code == 403

"""Every program in examples/ is deployed as it stands and used by a real client."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.platform_fixture import EXAMPLES, Platform, wait_for


def deploy(platform: Platform, name: str) -> None:
    done = platform.cli("deploy", EXAMPLES / name, timeout=120)
    assert done.code == 0, f"{done.both}\n{platform.log_tails()}"


def test_a_task_calls_an_app(platform: Platform) -> None:
    done = platform.cli("run", EXAMPLES / "task_calling_app.py", "add_one_task", "--x", "41", timeout=120)
    assert (done.code, done.out) == (0, "42\n"), done.both
    assert httpx.get(platform.app_url("add-one-app"), params={"x": 1}, trust_env=False).json() == {"result": 2}


def test_the_example_runs_as_a_script(platform: Platform) -> None:
    done = platform.python(EXAMPLES / "task_calling_app.py", timeout=120)
    assert done.code == 0, done.both
    assert done.out.splitlines()[-1] == "42"


def test_an_app_calls_an_app_by_endpoint_and_by_parameter(platform: Platform) -> None:
    deploy(platform, "app_calling_app.py")
    till, menu = platform.app_url("till"), platform.app_url("menu")
    with httpx.Client(trust_env=False, timeout=30) as http:
        assert http.get(f"{till}/total", params={"item": "tea", "count": 3}).json() == {"cents": 750}
        assert http.get(f"{till}/total", params={"item": "gold"}).status_code == 404
        assert http.get(f"{till}/menu-url").json() == {"endpoint": menu, "parameter": menu}


def order(url: str, key: str | None = "test-api-key", **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.post(f"{url}/orders", params={"wait": "true"}, json=body, headers=headers, timeout=60, trust_env=False)


def test_a_webhook_runs_a_task_and_answers_with_its_result(platform: Platform) -> None:
    deploy(platform, "webhook.py")
    url = platform.app_url("order-webhook")
    answer = order(url, item="tea", count=3)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "succeeded"
    assert answer.json()["outputs"] == [750]
    assert order(url, item="gold").status_code == 422
    assert order(url, item="tea", count=0).status_code == 422
    assert order(url, "wrong", item="tea").status_code == 403
    assert order(url, None, item="tea").status_code == 422
    found = httpx.get(
        f"{url}/orders/{answer.json()['id']}", headers={"Authorization": "Bearer test-api-key"}, trust_env=False
    )
    assert found.json()["status"] == "succeeded"


async def test_websockets_echo_meet_in_rooms_and_follow_a_task(platform: Platform) -> None:
    await asyncio.to_thread(deploy, platform, "websocket.py")
    url = platform.app_url("rooms").replace("http", "ws", 1)
    async with asyncio.timeout(60), websockets.connect(f"{url}/echo", proxy=None) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
    async with (
        asyncio.timeout(60),
        websockets.connect(f"{url}/rooms/tea", proxy=None) as one,
        websockets.connect(f"{url}/rooms/tea", proxy=None) as other,
    ):
        assert json.loads(await one.recv()) == {"members": 1}
        assert json.loads(await other.recv()) == {"members": 2}
        await one.send("milk?")
        assert json.loads(await other.recv()) == {"said": "milk?"}
    async with asyncio.timeout(60), websockets.connect(f"{url}/count", proxy=None) as socket:
        await socket.send("one two three")
        updates = []
        while "outputs" not in (update := json.loads(await socket.recv())):
            updates.append(update["status"])
        assert update["outputs"] == [3]
        assert updates[-1] == "succeeded"


@pytest.mark.parametrize("where", ["platform", "--local"])
def test_a_task_fans_out(platform: Platform, where: str) -> None:
    words: list[str | Path] = [
        "run",
        *(["--local"] if where == "--local" else []),
        EXAMPLES / "fan_out.py",
        "count_primes",
    ]
    done = platform.cli(*words, "--below", "2000", "--slices", "5", timeout=120)
    assert (done.code, done.out) == (0, "303\n"), done.both


def test_a_streamlit_page_answers(platform: Platform) -> None:
    pytest.importorskip("streamlit")
    done = platform.cli("serve", EXAMPLES / "streamlit_dashboard.py", "env", timeout=120)
    assert done.code == 0, f"{done.both}\n{platform.log_tails()}"
    url = done.out.strip()
    answers = lambda: httpx.get(f"{url}/_stcore/health", trust_env=False, timeout=10).status_code == 200  # noqa: E731
    wait_for(answers, "streamlit says that it is well", 30)
    assert "<title>Streamlit</title>" in httpx.get(url, trust_env=False, timeout=30).text


def test_no_example_is_without_a_test() -> None:
    source = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if path.name not in source] == []

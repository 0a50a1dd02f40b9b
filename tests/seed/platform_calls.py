"""What these tests ask of a platform besides its own commands: deploy a text, run a task, look at a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.platform_fixture import Finished, Platform

RUN_TIMEOUT = 60
"""Seconds that a run of these tests may take."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The front door's TLS listener."""

    authority: Path
    """The certificate of the authority that signed."""
    certificate: Path
    """Key and certificate of the door itself."""
    port: int


def try_to_deploy(platform: Platform, name: str, text: str, *words: str, **env: str) -> Finished:
    """Write the program and `flyte deploy` it; every environment of the file unless `words` name one."""
    path = platform.write(f"{name}.py", text)
    chosen = words if words and not words[0].startswith("-") else ("--all", *words)
    return platform.cli("deploy", path.name, *chosen, timeout=90, **env)


def deploy(platform: Platform, name: str, text: str, *words: str, **env: str) -> str:
    """Deploy, and return what the command printed. Fails with all that is known when it does not succeed."""
    done = try_to_deploy(platform, name, text, *words, **env)
    assert done.code == 0, f"flyte deploy {name}.py {' '.join(words)}: {done.both}\n{platform.log_tails()}"
    return done.out


def run_task(platform: Platform, task: str, version: str | None = None, **inputs: Any) -> dict[str, Any]:
    """Run a deployed task to its end; the run as the API shows it."""
    body = {"task": task, "version": version, "inputs": inputs}
    with platform.client() as http:
        answer = http.post("/v1/runs", params={"wait": RUN_TIMEOUT}, json=body, timeout=RUN_TIMEOUT + 5)
    assert answer.status_code == 201, answer.text
    run: dict[str, Any] = answer.json()
    return run


def finished_run(platform: Platform, name: str) -> dict[str, Any]:
    """The run once it has ended."""
    with platform.client() as http:
        answer = http.get(f"/v1/runs/{name}", params={"wait": RUN_TIMEOUT}, timeout=RUN_TIMEOUT + 5)
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


def inputs_of(platform: Platform, run: str) -> Any:
    with platform.client() as http:
        answer = http.get(f"/v1/runs/{run}/actions/a0")
    assert answer.status_code == 200, answer.text
    return answer.json()["inputs"]


def runs_of(platform: Platform, task: str) -> list[dict[str, Any]]:
    """The task's runs, newest first; `task` is its full name."""
    with platform.client() as http:
        answer = http.get("/v1/runs", params={"task": task, "limit": 1000})
    assert answer.status_code == 200, answer.text
    runs: list[dict[str, Any]] = answer.json()
    return runs


def opens_in_the_console(platform: Platform, url: str, run: str) -> None:
    """`url` is a page of the console about `run`."""
    with platform.client() as http:
        answer = http.get(url)
    assert answer.status_code == 200, answer.text[:500]
    assert answer.headers["content-type"].startswith("text/html")
    assert run in answer.text


def app_client(platform: Platform, app: str, key: str | None = None) -> httpx.Client:
    """A client that calls an app at its own address, and says nothing of who it is unless it is given a key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=platform.app_url(app), headers=headers, timeout=60, trust_env=False)


def api_key(platform: Platform, name: str) -> str:
    """A new key, as its owner is given it."""
    made = platform.cli("create", "api-key", name)
    assert made.code == 0, made.both
    return made.out.strip()


def create_secret(platform: Platform, name: str, value: str) -> None:
    made = platform.cli("create", "secret", name, stdin=value + "\n")
    assert made.code == 0, made.both

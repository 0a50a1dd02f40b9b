"""Each test of the SDK starts as a fresh process would: no settings, an empty home and working folder."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyte._session import init as _init
from flyte._session import plan as _plan
from flyte._session import state as _state
from flyte._ship import deploy as _deploy
from tests.flyte.cli_world import Shell
from tests.flyte.fake_platform import TOKEN, FakePlatform
from tests.flyte.fork_server_driver import ForkServers, fork_servers

_OURS = ("FLYTE", "TARMAC", "UCTL", "_U_", "EAGER", "_UNION", "RUN_NAME", "ACTION_NAME")


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TARMAC_HOME", str(tmp_path / "tarmac"))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(_state, "_state", None)
    monkeypatch.setattr(_plan, "_announced", set())
    monkeypatch.setattr(_deploy, "_done", {})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the code that fork servers import."""
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


@pytest.fixture
def fork_server(tmp_path: Path, root: Path) -> Iterator[ForkServers]:
    with fork_servers(tmp_path) as make:
        yield make


@pytest.fixture
def fake() -> Iterator[FakePlatform]:
    """A fake platform that answers."""
    with FakePlatform().serving() as platform:
        yield platform


@pytest.fixture
def connected(fake: FakePlatform) -> FakePlatform:
    """The fake platform, in force for the SDK."""
    _init.init(endpoint=fake.endpoint, api_key=TOKEN)
    return fake


class Project:
    """The user's program: files in the working folder, imported as a script's modules are."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def load(self, text: str, name: str = "program") -> Any:
        """Import a module with that text."""
        self.write(f"{name}.py", text)
        importlib.invalidate_caches()
        return importlib.import_module(name)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A program in the working folder; it is forgotten after the test."""
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Project(Path.cwd())
    for name in set(sys.modules) - set(before):
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(Path.cwd())):
            del sys.modules[name]


@pytest.fixture
def shell(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The `flyte` command, with the fake platform configured."""
    found = Shell(monkeypatch, capsys)
    found.talks_to(fake)
    return found

"""Each test of the SDK starts as a fresh process would: no settings, an empty home and working folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte import _init
from tests.flyte.fake_platform import TOKEN, FakePlatform

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
    monkeypatch.setattr(_init, "_state", None)
    monkeypatch.setattr(_init, "_announced", set())


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

"""The `flyte` command in this process, against the fake platform or none: fast enough for every word of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from flyte._session import state as _state
from flyte._ship import deploy as _deploy
from flyte.cli._main import start
from tests.flyte.fake_platform import TOKEN, FakePlatform


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class Shell:
    """Calls commands one after the other, each as a new process would begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def talks_to(self, fake: FakePlatform) -> None:
        self._monkeypatch.setenv("FLYTE_ENDPOINT", fake.endpoint)
        self._monkeypatch.setenv("FLYTE_API_KEY", TOKEN)

    def __call__(self, *words: object) -> Said:
        self._monkeypatch.setattr(_state, "_state", None)
        self._monkeypatch.setattr(_deploy, "_done", {})
        self._capsys.readouterr()
        code = start([str(word) for word in words])
        shown = self._capsys.readouterr()
        return Said(code, shown.out, shown.err)

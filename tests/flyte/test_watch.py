"""What `flyte run` shows while a run goes on, and what it says when it cannot look any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import click
import pytest

from flyte import wire
from flyte._client.client import Client
from flyte.cli import _main, execute, watch
from flyte.cli.options import Invocation
from flyte.cli.run_options import RunOptions
from flyte.errors import SystemUnavailableError

RUN = wire.Run(
    name="r1", project="p", domain="d", task="env.f", version="v1", phase=wire.ActionPhase.RUNNING, url="http://x/r1"
)


class _Away:
    """A client whose platform goes away while one of the two streams is read."""

    def __init__(self, lost: str) -> None:
        self._lost = lost

    async def _stream(self, name: str, *first: Any) -> AsyncIterator[Any]:
        for item in first:
            yield item
        if name == self._lost:
            raise SystemUnavailableError("the platform at http://x does not answer (gone); start it with `flyte up`")
        await asyncio.Event().wait()

    def run_events(self, name: str, **options: Any) -> AsyncIterator[Any]:
        return self._stream("events", ("snapshot", 1, RUN))

    def whole_run_logs(self, name: str, **options: Any) -> AsyncIterator[Any]:
        return self._stream("logs")

    async def list_actions(self, name: str, chosen: wire.ActionFilter) -> list[wire.Action]:
        return []


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("lost", ["events", "logs"])
async def test_a_platform_that_goes_away_is_named_and_not_the_group_of_our_tasks(lost: str, live: bool) -> None:
    with pytest.raises(SystemUnavailableError, match=r"the platform at http://x does not answer"):
        await watch.follow(cast("Client", _Away(lost)), RUN, live)


def test_it_is_said_that_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    async def start() -> wire.Run:
        return RUN

    with (
        click.Context(click.Command("run"), obj=Invocation()),
        pytest.raises(SystemUnavailableError) as caught,
    ):
        execute._shown(start(), cast("Client", _Away("events")), RunOptions(follow=True))
    assert _main.report(caught.value) == 2
    said = capsys.readouterr().err
    assert "The run goes on.  See it: flyte get run r1" in said
    assert said.rstrip().splitlines()[-1].startswith("Error: the platform at http://x does not answer")

"""A report is what was flushed last, and can be read again; in local mode as on a platform."""

from __future__ import annotations

from pathlib import Path

import pytest

import flyte
import flyte.report
from flyte.errors import NotFoundError
from flyte.remote import Action

env = flyte.TaskEnvironment("reports")


@env.task(report=True)
async def shows() -> None:
    await flyte.report.log.aio("<b>one</b>", do_flush=True)
    await flyte.report.log.aio("<i>two</i>", do_flush=True)


@env.task(report=True)
def shows_blocking() -> None:
    flyte.report.get_tab("main").log("<b>one</b>\n<i>two</i>")
    flyte.report.flush()


@env.task(report=True, retries=1)
async def shows_twice() -> None:
    await flyte.report.log.aio(f"attempt {flyte.ctx().attempt}", do_flush=True)
    if flyte.ctx().attempt == 1:
        raise ValueError("once more")


@env.task
async def silent() -> None: ...


@pytest.mark.parametrize("task", [shows, shows_blocking], ids=["async", "blocking"])
async def test_what_was_flushed_just_before_the_end_is_the_report(task: flyte.TaskTemplate[[], object, object]) -> None:
    flyte.init()
    for _ in range(5):
        run = await flyte.run.aio(task)
        await run.wait.aio(quiet=True)
        assert "<b>one</b>\n<i>two</i>" in await run.get_report.aio()
        assert await (await Action.get.aio(run_name=run.name)).get_report.aio() == await run.get_report.aio()


async def test_each_attempt_has_its_own() -> None:
    flyte.init()
    run = await flyte.run.aio(shows_twice)
    await run.wait.aio(quiet=True)
    assert "attempt 1" in await run.get_report.aio(attempt=1)
    assert "attempt 2" in await run.get_report.aio()


async def test_an_action_that_showed_nothing_has_none() -> None:
    flyte.init()
    run = await flyte.run.aio(silent)
    await run.wait.aio(quiet=True)
    with pytest.raises(NotFoundError, match="has no report"):
        await run.get_report.aio()


async def test_in_local_mode_no_code_was_sent(tmp_path: Path) -> None:
    flyte.init()
    run = await flyte.run.aio(silent)
    await run.wait.aio(quiet=True)
    assert (await run.code_bundle.aio()).digest is None
    with pytest.raises(NotFoundError, match=r"no code was sent for reports\.silent"):
        await run.download_code.aio(tmp_path)

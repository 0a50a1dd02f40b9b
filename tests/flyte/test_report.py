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


def test_a_report_with_several_tabs_has_a_button_for_each() -> None:
    report = flyte.report.Report("daily <1>")
    report.get_tab("a & b").log("<b>one</b>")
    assert "role='tab'" not in report.get_final_report()
    report.get_tab("plots").log("<i>two</i>")
    page = report.get_final_report()
    assert page.count("role='tab' ") == page.count("role='tabpanel'") == 2
    for part in ("<title>daily &lt;1&gt;</title>", "a &amp; b</button>", "<b>one</b>", "<i>two</i>"):
        assert part in page


def test_only_what_was_logged_is_content() -> None:
    report = flyte.report.Report("r")
    report.get_tab("main")
    assert not report.has_content()
    report.get_tab("main").log("x")
    assert report.has_content()


@env.task(report=True)
async def tells() -> None:
    timeline = flyte.report.Timeline("steps")
    timeline.heading("<Work>")
    timeline.row(label="fetch", meta="12 ms", detail=flyte.report.abbreviate("<a>"), error="no <b>")
    await flyte.report.flush.aio()


async def test_a_timeline_lists_what_happened_and_does_nothing_outside_an_action() -> None:
    flyte.init()
    flyte.report.Timeline().row(label="nobody sees this")
    run = await flyte.run.aio(tells)
    await run.wait.aio(quiet=True)
    page = await run.get_report.aio()
    for part in ("&lt;Work&gt;</h2>", "<b>fetch</b>", "12 ms</span>", "— &lt;a&gt;", "⚠ no &lt;b&gt;"):
        assert part in page


def test_long_values_are_cut_and_can_be_opened() -> None:
    assert flyte.report.abbreviate(None) == ""
    assert flyte.report.abbreviate("a" * 300) == "a" * 300
    long = flyte.report.abbreviate("<" * 25_000, 10)
    assert long.startswith(f"<details><summary>{'&lt;' * 10}… (+24,990)</summary>")
    assert "5,000 more characters" in long


@pytest.mark.parametrize(
    ("start", "end", "shown"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.120Z", "120 ms"),
        ("2026-01-01T00:00:00", "2026-01-01T00:00:00Z", ""),
        (None, "2026-01-01", ""),
        ("x", "y", ""),
    ],
)
def test_a_time_between_two_moments_is_in_milliseconds(start: object, end: object, shown: str) -> None:
    assert flyte.report.duration_ms(start, end) == shown

"""Why a run failed stands on the screen: the action that failed first, its inputs, its traceback and its last lines."""

from __future__ import annotations

import msgspec

from flyte import wire
from flyte.errors import user_error
from flyte.tracebacks import readable
from flyte.wire import ActionPhase
from tests.flyte.cli_world import Shell
from tests.flyte.fake_platform import FakePlatform, Refused

CODE = "/tmp/home/.tarmac/code/" + "0a" * 32
PARENT = f'''Traceback (most recent call last):
  File "/usr/lib/python3.11/asyncio/base_events.py", line 653, in run_until_complete
    return future.result()
           ^^^^^^^^^^^^^^^
  File "{CODE}/weather/report.py", line 9, in daily
    await gather(*calls)
flyte.errors.ValueError: station 17 does not answer
'''
CHILD = PARENT.replace("line 9, in daily", "line 21, in fetch").replace("await gather(*calls)", 'raise ValueError("…")')


def failing(fake: FakePlatform, parent: wire.ErrorInfo, child: wire.ErrorInfo) -> None:
    """A task whose run fails because a child of it does."""

    def run() -> None:
        (held,) = fake.runs.values()
        held.children = [
            wire.Action(run=held.record.name, name=f"f{at}", parent="a0", task="weather.fetch", short_name="fetch",
                        phase=ActionPhase.FAILED if at == 1 else ActionPhase.SUCCEEDED, created=at + 1.0,
                        ended=900.0 + at, error=child if at == 1 else None)
            for at in range(3)
        ]  # fmt: skip
        held.child_logs = {"f1": ["asking station 17"]}
        raise Refused(parent)

    fake.task("weather.daily", run)


def test_a_failed_child_is_shown_with_what_it_said(shell: Shell, fake: FakePlatform) -> None:
    parent = wire.ErrorInfo(code="ValueError", message="station 17 does not answer", traceback=PARENT)
    failing(fake, parent, msgspec.structs.replace(parent, traceback=CHILD))
    done = shell("run", "deployed-task", "weather.daily")
    assert done.code == 1
    assert "fetch[1] (f1) failed first" in done.err
    assert 'File "weather/report.py", line 21, in fetch' in done.err
    assert "flyte get logs" in done.err
    assert done.err.count("station 17 does not answer") == 1, "the sentence is said once"
    assert "asyncio" not in done.err
    assert "flyte.errors" not in done.err
    assert "0a0a" not in done.err


def test_an_error_of_the_parents_own_is_shown_before_that_of_the_child(shell: Shell, fake: FakePlatform) -> None:
    parent = wire.ErrorInfo(code="ReportError", message="no report today", traceback="")
    child = wire.ErrorInfo(code="ValueError", message="station 17 does not answer", traceback=CHILD)
    failing(fake, parent, child)
    done = shell("run", "deployed-task", "weather.daily")
    at = [done.err.index(words) for words in ("ReportError: no report today", "failed first", "station 17 does not")]
    assert at == sorted(at)


def test_the_log_of_a_run_names_the_task_of_each_line(shell: Shell, fake: FakePlatform) -> None:
    failing(fake, wire.ErrorInfo(code="E", message="m"), wire.ErrorInfo(code="E", message="m"))
    shell("run", "deployed-task", "weather.daily")
    (name,) = fake.runs
    assert shell("get", "logs", name).out == "started\ndone\nfetch[1] | asking station 17\n"
    lines = shell("get", "logs", name, "-o", "json").out.splitlines()
    assert [msgspec.json.decode(line)["source"] for line in lines] == ["a0", "a0", "f1"]


def test_an_empty_log_says_whose_it_is(shell: Shell, fake: FakePlatform) -> None:
    fake.task("env.quiet", lambda: None)
    shell("run", "deployed-task", "env.quiet")
    (held,) = fake.runs.values()
    held.log.clear()
    done = shell("get", "logs", held.record.name)
    assert (done.code, done.out) == (0, "")
    assert f"the run {held.record.name} has written nothing" in done.err


def test_a_long_line_is_whole_in_the_terminals_and_in_the_programs_log(shell: Shell, fake: FakePlatform) -> None:
    fake.task("env.long", lambda: None)
    shell("run", "deployed-task", "env.long")
    (held,) = fake.runs.values()
    held.log[:] = ["x" * 5_000_000]
    assert len(shell("get", "logs", held.record.name).out) == 5_000_001
    assert len(msgspec.json.decode(shell("get", "logs", held.record.name, "-o", "json").out)["text"]) == 5_000_000


def test_a_readable_traceback_begins_with_the_users_first_frame() -> None:
    assert readable(PARENT).splitlines() == [
        "Traceback (most recent call last):",
        '  File "weather/report.py", line 9, in daily',
        "    await gather(*calls)",
        "ValueError: station 17 does not answer",
    ]


def test_frames_of_python_below_the_users_stay() -> None:
    text = f'''Traceback (most recent call last):
  File "{CODE}/job.py", line 3, in f
    json.loads("x")
  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads
    return _default_decoder.decode(s)
json.decoder.JSONDecodeError: Expecting value'''
    assert "json/__init__.py" in readable(text)


def test_a_traceback_of_python_alone_and_no_traceback_stay_as_they_are() -> None:
    alone = """Traceback (most recent call last):
  File "/usr/lib/python3.11/runpy.py", line 1, in run
    run()
RuntimeError: x"""
    assert readable(alone) == alone
    assert readable("") == ""


def test_errors_of_our_own_keep_their_name() -> None:
    assert readable("flyte.errors.OOMError: too much") == "OOMError: too much"


def test_an_error_from_another_action_is_printed_under_its_own_name() -> None:
    import traceback

    error = user_error("ValueError", "no", ValueError)
    assert traceback.format_exception_only(error) == ["ValueError: no\n"]

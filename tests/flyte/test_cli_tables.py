"""What a terminal of a given width shows: nothing is cut that one needs for the next command, and all lines fit."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import msgspec
import pytest

from flyte import moments, wire
from flyte.cli import render, watch
from flyte.cli.tables import Column, fitted
from flyte.wire import ActionPhase
from tests.flyte.fake_platform import TOKEN, FakePlatform, Refused

LONG = "ValueError: " + "the station did not answer, " * 8


def refuse() -> None:
    raise Refused(wire.ErrorInfo(code="ValueError", message=LONG))


@pytest.fixture
def full(fake: FakePlatform) -> FakePlatform:
    """A platform with a failed run of many actions, and an app."""
    fake.task("warehouse_pipeline.load_everything", refuse)
    record = wire.Run(
        name="rmx1sq598tagicmea01l",
        project="flytesnacks",
        domain="development",
        task="warehouse_pipeline.load_everything",
        version="3cf5c52f484f",
        phase=ActionPhase.FAILED,
        url="http://127.0.0.1:30080/v2/runs/x",
        created=time.time() - 100,
        started=1000.0,
        ended=1000.006,
        error=wire.ErrorInfo(code="ValueError", message=LONG),
        actions=201,
    )
    from tests.flyte.fake_platform import FakeRun

    request = wire.RunRequest(task=record.task)
    fake.runs[record.name] = FakeRun(record, b"{}", request)
    fake.runs[record.name].children = [
        wire.Action(
            run=record.name,
            name="fby1iozobk3u4r5vqkhejv8ie",
            parent="a0",
            task="warehouse_pipeline.fetch",
            short_name="fetch",
            phase=ActionPhase.FAILED,
            created=1.0,
            started=1.0,
            ended=1.5,
            error=record.error,
        )
    ]
    fake.apps["weather-api"] = wire.App(
        project="flytesnacks",
        domain="development",
        name="weather-api",
        version="3cf5c52f484f",
        status=wire.AppStatus.ACTIVE,
        url="http://127.0.0.1:30181",
        message="the deployment failed; version 3cf5c52f484f goes on",
        created=time.time(),
    )
    return fake


def on_a_terminal(fake: FakePlatform, width: int, *words: str) -> str:
    """What `flyte …` writes to a terminal of that many columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    env |= {"FLYTE_ENDPOINT": fake.endpoint, "FLYTE_API_KEY": TOKEN, "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "flyte.cli", *words]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=env)
    os.close(follower)
    seen = b""
    while True:
        try:
            seen += os.read(leader, 65536)
        except OSError:  # the program has ended
            break
    os.close(leader)
    assert process.wait(20) == 0, seen
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode()).replace("\r", "")


NEEDED = {
    ("get", "run"): ["rmx1sq598tagicmea01l", "failed", "6 ms"],
    ("get", "app"): ["weather-api", "http://127.0.0.1:30181", "active"],
    ("get", "action", "rmx1sq598tagicmea01l"): ["fby1iozobk3u4r5vqkhejv8ie", "fetch", "failed", "ValueError"],
}


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("words", NEEDED, ids=" ".join)
def test_a_list_fits_the_terminal_and_cuts_no_name_and_no_address(
    full: FakePlatform, width: int, words: tuple[str, ...]
) -> None:
    shown = on_a_terminal(full, width, *words)
    for needed in NEEDED[words]:
        assert needed in shown
    table = [line for line in shown.splitlines() if line and not line.startswith("(no room")]
    assert max(map(len, table)) <= width
    assert len(table) <= 2 + 1 + (words[1] == "action"), "a record is one line"
    assert "ValueError" not in shown or "…" in shown, "what is cut says so"


def test_a_terminal_that_is_too_narrow_says_what_is_left_out(full: FakePlatform) -> None:
    shown = on_a_terminal(full, 60, "get", "run")
    assert "rmx1sq598tagicmea01l" in shown
    assert "no room for: actions" in shown


def test_columns_are_left_out_by_their_order_and_text_is_cut_first() -> None:
    columns: list[Column[list[str]]] = [
        Column("name", lambda row: row[0]),
        Column("task", lambda row: row[1], least=6),
        Column("size", lambda row: row[2], leaves=1),
        Column("note", lambda row: row[3], leaves=2, least=5),
    ]
    rows = [["n" * 10, "t" * 10, "s" * 4, "x" * 20]]
    whole = fitted(columns, rows, 60)
    assert whole.rows == [["n" * 10, "t" * 10, "s" * 4, "x" * 20]]
    assert whole.left_out == []
    assert fitted(columns, rows, 40).rows == [["n" * 10, "t" * 10, "s" * 4, "x" * 9 + "…"]]
    assert fitted(columns, rows, 30).left_out == ["note"]
    assert fitted(columns, rows, 18).rows == [["n" * 10, "ttttt…"]]
    assert fitted(columns, rows, 5).rows == [["n" * 10, "ttttt…"]], "a name is not cut"


def test_a_column_without_content_takes_no_room() -> None:
    columns: list[Column[list[str]]] = [
        Column("name", lambda row: row[0]),
        Column("note", lambda row: row[1], leaves=1),
    ]
    assert fitted(columns, [["a", ""]], 80).head == ["name"]


def test_wide_characters_count_as_two() -> None:
    columns: list[Column[list[str]]] = [Column("name", lambda row: row[0], least=4)]
    assert fitted(columns, [["気象観測所"]], 7).rows == [["気象観…"]]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.006, "6 ms"), (0.9999, "1.0 s"), (1.25, "1.2 s"), (59.97, "1m 0s"), (75, "1m 15s"),
     (7500, "2h 5m"), (100_000, "1d 3h")],
)  # fmt: skip
def test_a_duration_is_written_as_in_the_console(seconds: float, text: str) -> None:
    assert moments.duration(seconds) == text


def test_json_has_the_times_for_people_beside_those_in_seconds() -> None:
    run = wire.Run(
        name="r", project="p", domain="d", task="t", version="v", phase=ActionPhase.SUCCEEDED, url="u",
        created=1795953998.253542, started=1795953998.3, ended=1795953998.306,
    )  # fmt: skip
    data = render.as_data(run)
    assert data["created"] == 1795953998.253542
    assert data["created_at"] == "2026-11-29T12:06:38.253Z"
    assert data["ended_at"] == "2026-11-29T12:06:38.306Z"
    assert data["duration"] == pytest.approx(0.006)
    waiting = render.as_data(msgspec.structs.replace(run, started=None, ended=None))
    assert (waiting["started_at"], waiting["duration"]) == (None, None)


@pytest.mark.parametrize("name", ["fetch", "[red]fetch", "a[1]"])
def test_the_live_tree_shows_names_and_messages_as_they_are(name: str) -> None:
    from rich.console import Console

    action = wire.Action(run="r", name="f", parent="a0", task=name, phase=ActionPhase.FAILED, message="[dim]why[/dim]")
    run = wire.Run(
        name="r", project="p", domain="d", task=name, version="v", phase=ActionPhase.RUNNING, url="u", started=1.0
    )
    console = Console(width=100, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
    console.print(watch.drawing(watch.View(run, [action])), markup=False)
    shown = console.export_text()
    console.file.close()
    assert f"{name}  running" in shown
    assert f"{name}  failed" in shown
    assert "[dim]why[/dim]" in shown
    assert "[cyan]" not in shown


def test_a_run_that_timed_out_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    watch._Plain().show(
        watch.View(
            wire.Run(
                name="r",
                project="p",
                domain="d",
                task="t",
                version="v",
                phase=ActionPhase.TIMED_OUT,
                url="u",
                started=1.0,
                ended=3.0,
            )
        )
    )
    assert capsys.readouterr().err == "r: timed out after 2.0 s\n"

"""What an action leaves besides its outputs: checkpoints for its next attempts, a report, and the code that it ran."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.platform_fixture import Platform, wait_for

PROGRAM = """
import asyncio, os
from pathlib import Path

import flyte
import flyte.report

env = flyte.TaskEnvironment(name="kept")


@env.task(retries=3)
def count(to: int) -> list[int]:
    checkpoint = flyte.ctx().checkpoint
    before = checkpoint.load_sync()
    start = int(before.read_text()) if before else 0
    checkpoint.save_sync(str(start + 1).encode())
    if start + 1 < to:
        raise ValueError(f"at {start + 1}")
    return [start + 1, flyte.ctx().attempt]


@env.task
async def killed(told: str) -> str:
    checkpoint = flyte.ctx().checkpoint
    before = await checkpoint.load()
    if before:
        return (before / "state.txt").read_text()
    state = checkpoint.path / "state"
    state.mkdir()
    (state / "state.txt").write_text("half way")
    await checkpoint.save(state)
    Path(told + ".new").write_text(str(os.getpid()))
    os.rename(told + ".new", told)
    await asyncio.sleep(600)
    return "not killed"


@env.task(report=True)
async def shows(again: bool = False) -> None:
    flyte.report.get_tab("Plots").log("<b>one</b>")
    await flyte.report.flush.aio()
    flyte.report.get_tab("Plots").log("<i>two</i>")
    await flyte.report.flush.aio()


@env.task
async def silent() -> None: ...
"""

ASK = """
import asyncio, json, sys
import flyte
from flyte.errors import NotFoundError
from flyte.remote import Action, ActionDetails, Project, Run

flyte.init_from_config()
run = Run.get(sys.argv[1])
action = Action.get(run_name=run.name)
try:
    report = run.get_report()
    assert action.get_report() == report == run.get_report(attempt=1)
except NotFoundError as error:
    report = str(error)
bundle = run.code_bundle()
details = ActionDetails.get(run_name=run.name)
assert details.code_bundle == bundle
assert bundle.version == run.version
place = run.download_code(sys.argv[2])
archive = action.download_code(sys.argv[2] + "-packed", extract=False)
print(json.dumps({"report": report, "digest": bundle.digest, "place": str(place), "archive": str(archive)}))
"""

PROJECTS = """
import json
import flyte
from flyte.errors import AlreadyExistsError, NotFoundError
from flyte.remote import Project

flyte.init_from_config()
made = Project.create("shelf", "Shelf")
made.update(description="books", labels={"a": "b"})
assert (made.name, made.description, made.labels) == ("Shelf", "books", {"a": "b"})
assert Project.update("shelf", name="Shelves").name == "Shelves"
made.archive()
assert made.archived and made.name == "Shelves"
assert "shelf" not in [project.id for project in Project.listall()]
assert "shelf" in [project.id for project in Project.listall(archived=True)]
Project.unarchive("shelf")
assert "shelf" in [project.id for project in Project.listall()]
assert Project.create("shelf", "Shelves", "books", {"a": "b"}).id == "shelf"  # the same again
try:
    Project.create("shelf", "Another")
except AlreadyExistsError as error:
    print(error)
try:
    Project.archive("nope")
except NotFoundError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def deployed(platform: Platform) -> Platform:
    program = platform.write("kept.py", PROGRAM)
    done = platform.cli("deploy", program, "--all", timeout=60)
    assert done.code == 0, done.both
    return platform


def start(platform: Platform, task: str, wait: int = 0, **inputs: Any) -> dict[str, Any]:
    with platform.client() as http:
        answer = http.post("/v1/runs", params={"wait": wait}, json={"task": task, "inputs": inputs})
        answer.raise_for_status()
        run: dict[str, Any] = answer.json()
    return run


def ended(platform: Platform, run: str) -> dict[str, Any]:
    with platform.client() as http:
        found: dict[str, Any] = http.get(f"/v1/runs/{run}", params={"wait": 25}).json()
    return found


def kept(platform: Platform, run: str) -> Path:
    return platform.home / "files" / "checkpoints" / run


def test_a_retry_goes_on_where_the_attempt_before_it_was(deployed: Platform) -> None:
    run = start(deployed, "count", wait=25, to=3)
    assert run["outputs"] == [[3, 3]]
    wait_for(lambda: not kept(deployed, run["name"]).exists(), "the checkpoints of a run that is over are removed")


def test_what_was_saved_outlives_its_process(deployed: Platform) -> None:
    told = deployed.work / "killed.pid"
    run = start(deployed, "killed", told=str(told))
    wait_for(told.exists, "the task has saved", 20)
    assert kept(deployed, run["name"]).exists()
    os.kill(int(told.read_text()), signal.SIGKILL)
    over = ended(deployed, run["name"])
    assert (over["outputs"], over["attempt"]) == (["half way"], 2)


def test_a_report_and_the_code_are_read_again(deployed: Platform) -> None:
    run = start(deployed, "shows", wait=25)
    done = deployed.python("-c", ASK, run["name"], "code")
    assert done.code == 0, done.both
    found = json.loads(done.out)
    assert "<b>one</b>\n<i>two</i>" in found["report"]
    assert (deployed.work / "code" / "kept.py").read_text() == PROGRAM
    with tarfile.open(deployed.work / found["archive"]) as archive:
        assert "kept.py" in archive.getnames()
    assert Path(found["archive"]).name == f"{found['digest']}.tar.gz"


def test_an_action_that_showed_nothing_has_no_report(deployed: Platform) -> None:
    run = start(deployed, "silent", wait=25)
    done = deployed.python("-c", ASK, run["name"], "code")
    assert done.code == 0, done.both
    assert "has no report" in json.loads(done.out)["report"]


def test_a_project_is_changed_archived_and_shown_again(platform: Platform) -> None:
    done = platform.python("-c", PROJECTS)
    assert done.code == 0, done.both
    assert "project 'shelf' exists" in done.out
    assert "no project 'nope'; there are: " in done.out

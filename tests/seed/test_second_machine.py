"""The page from a second machine's point of view: an address, a key, another HOME, and no folder of the platform's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.platform_fixture import ROOT, Finished, Platform
from tests.seed.page import Page
from tests.seed.platform_calls import api_key

PATTERN = "Second machine"


@dataclass(frozen=True, slots=True)
class Machine:
    """A HOME, a working directory, and what its environment says of the platform."""

    home: Path
    work: Path
    settings: dict[str, str]

    def python(self, *words: str, timeout: float = 90) -> Finished:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(ROOT / "src"), **self.settings}
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, timeout=timeout, cwd=self.work, env=env
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def cli(self, *words: str, timeout: float = 90) -> Finished:
        return self.python("-m", "flyte.cli", *words, timeout=timeout)


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    return api_key(platform, "second-machine")


@pytest.fixture(scope="module", params=["variables", "config file"])
def machine(
    request: pytest.FixtureRequest, platform: Platform, key: str, tmp_path_factory: pytest.TempPathFactory
) -> Machine:
    folder = tmp_path_factory.mktemp("machine")
    made = Machine(folder / "home", folder / "work", {})
    made.home.mkdir()
    made.work.mkdir()
    if request.param == "variables":
        return Machine(made.home, made.work, {"FLYTE_ENDPOINT": platform.endpoint, "FLYTE_API_KEY": key})
    words = ("--endpoint", platform.endpoint, "--api-key", key, "--file", str(made.home / ".flyte" / "config.yaml"))
    written = made.cli("create", "config", *words)
    assert written.code == 0, written.both
    return made


STREAM = """
import asyncio
import pathlib
import sys

import flyte
import flyte.remote as remote

flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)


async def main():
    task = await remote.TaskDetails.fetch(name="process_data", version="{version}")
    run = await flyte.run.aio(task, data={{"large": "x" * 200_000}})
    async for update in run.stream():
        print("update:", update.status)
    print("outputs:", (await run.outputs.aio())[0])


asyncio.run(main())
"""


@pytest.mark.snippet(PATTERN, "deploy, run, stream")
def test_it_deploys_block_59_runs_its_task_and_streams_it(machine: Machine, platform: Platform, page: Page) -> None:
    version = f"from-{machine.work.parent.name}".replace("_", "-")
    (machine.work / "webhook_runner.py").write_text(page.block(59))
    deployed = machine.cli("deploy", "webhook_runner.py", "--all", "--version", version)
    assert deployed.code == 0, deployed.both
    ran = machine.cli("run", "--follow", "webhook_runner.py", "process_data", "--data", '{"k": 1}')
    assert ran.code == 0, ran.both
    assert "processed" in ran.out
    (machine.work / "stream_it.py").write_text(STREAM.format(version=version))
    streamed = machine.python("stream_it.py")
    assert streamed.code == 0, streamed.both
    lines = streamed.out.splitlines()
    assert [line for line in lines if line.startswith("update:")][-1] == "update: succeeded"
    assert lines[-1] == "outputs: {'result': 'processed'}"


@pytest.mark.snippet(PATTERN, "listings and logs")
def test_it_lists_what_it_deployed_and_reads_the_logs(machine: Machine, platform: Platform) -> None:
    apps = machine.cli("get", "app", "-o", "json")
    assert apps.code == 0, apps.both
    assert "webhook-runner" in [app["name"] for app in json.loads(apps.out)]
    runs = machine.cli("get", "run", "--limit", "1", "-o", "name")
    assert runs.code == 0, runs.both
    logs = machine.cli("get", "logs", runs.out.strip())
    assert logs.code == 0, logs.both
    who = machine.cli("whoami")
    assert who.code == 0, who.both
    assert "second-machine" in who.out


@pytest.mark.snippet(PATTERN, "listings and logs")
def test_nothing_of_a_platform_was_made_in_its_home(machine: Machine) -> None:
    assert not (machine.home / ".tarmac").exists()


@pytest.mark.snippet(PATTERN, "a wrong key")
def test_a_wrong_key_is_one_clear_message(machine: Machine, platform: Platform) -> None:
    wrong = Machine(machine.home, machine.work, {"FLYTE_ENDPOINT": platform.endpoint, "FLYTE_API_KEY": "tk_wrong"})
    done = wrong.cli("get", "app")
    assert done.code == 2
    assert "key" in done.err
    assert "Traceback" not in done.err

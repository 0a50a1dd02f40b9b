"""Triggers of the docs' program on a platform: deployed, fired, paused, made by hand and deleted; by CLI and SDK."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

from tests.platform_fixture import ROOT, Platform, wait_for

PROGRAM = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "schedules.md").read_text(), re.M | re.S)[0]
SOON = """
import datetime
import flyte

env = flyte.TaskEnvironment("soon")
at = datetime.datetime.fromisoformat({at!r})


@env.task(triggers=flyte.Trigger("beat", flyte.FixedRate(1, start_time=at), inputs={{"when": flyte.TriggerTime}}))
async def tick(when: datetime.datetime) -> str:
    return when.isoformat()
"""
SDK = """
import flyte, flyte.remote as remote
flyte.init_from_config()
task = "backup.copy"
made = remote.Trigger.create(flyte.Trigger("mine", flyte.Cron("0 6 * * 1"), inputs={"folder": "all"}), task)
print(made.name, made.is_active, len(made.next_fires), [each.name for each in remote.Trigger.listall(task)])
paused = remote.Trigger.update("mine", task, active=False)
print(paused.is_active, remote.Trigger.get(name="mine", task_name=task).next_fires)
remote.Trigger.delete("mine", task)
for wrong in ({"folder": "all", "fodler": 1}, {}):
    try:
        remote.Trigger.create(flyte.Trigger("wrong", flyte.Cron("0 6 * * 1"), inputs=wrong), task)
    except flyte.errors.InvalidInputError as error:
        print(error.message)
"""


def trigger(platform: Platform, task: str, name: str) -> Any:
    return json.loads(platform.cli("get", "trigger", task, name, "-o", "json").out)


def test_a_deployed_task_is_started_at_its_time_and_not_after_its_trigger_was_paused(platform: Platform) -> None:
    at = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=6)).replace(microsecond=0)
    program = platform.write("soon.py", SOON.format(at=at.isoformat()))
    deployed = platform.cli("deploy", program)
    assert (deployed.code, "no effect" in deployed.both) == (0, False), deployed.both
    run = wait_for(lambda: trigger(platform, "soon.tick", "beat").get("run"), "the trigger has started a run", 30)
    paused = platform.cli("update", "trigger", "beat", "soon.tick", "--deactivate")
    assert "trigger beat of soon.tick is paused" in paused.err
    assert trigger(platform, "soon.tick", "beat")["next"] == []
    wait_for(lambda: "succeeded" in platform.cli("get", "run", run).out, "the run has succeeded", 30)
    assert json.loads(platform.cli("get", "io", run, "--outputs-only").out) == [at.isoformat()]
    assert platform.cli("get", "run", "--with-label", "trigger=beat", "-o", "name").out.split() == [run]


def test_the_program_of_the_docs_is_deployed_with_its_triggers(platform: Platform) -> None:
    program = platform.write("backup.py", PROGRAM)
    assert platform.cli("deploy", program).code == 0
    listed = platform.cli("get", "trigger", "backup.copy").out
    assert re.search(r"nightly +30 2 \* \* \* \(Europe/Berlin\) +active", listed), listed
    assert re.search(r"often +every 10 minutes +paused", listed), listed
    made = platform.cli(
        "create", "trigger", "backup.copy", "quick", "--schedule", "every 5 minutes", "--inputs", '{"folder": "cache"}'
    )
    assert "trigger quick of backup.copy is active, next at " in made.err
    assert trigger(platform, "backup.copy", "quick")["spec"]["every"] == 5
    assert platform.cli("delete", "trigger", "quick", "backup.copy").code == 0
    refused = platform.cli("delete", "trigger", "nightly", "backup.copy")
    assert (refused.code, "stands in the code of backup.copy" in refused.err) == (2, True), refused.both
    absent = platform.cli("get", "trigger", "backup.copy", "quick")
    assert (absent.code, "it has 'nightly', 'often'" in absent.err) == (2, True), absent.both
    said = platform.python("-c", SDK).out.splitlines()
    assert said[0] == "mine True 5 ['mine', 'nightly', 'often']"
    assert said[1] == "False []"
    assert "trigger 'wrong': backup.copy has no input 'fodler'" in said[2]
    assert "trigger 'wrong' of backup.copy lacks the input 'folder'" in said[3]


def test_a_trigger_that_is_not_valid_is_named_at_deploy(platform: Platform) -> None:
    program = platform.write(
        "bad_cron.py", PROGRAM.replace("30 2 * * *", "30 25 * * *").replace('"backup"', '"backup2"')
    )
    refused = platform.cli("deploy", program)
    assert refused.code == 2
    assert "trigger 'nightly' of backup2.copy: '30 25 * * *' is not a cron table: Bad hour" in refused.err
    for words in (
        ("--schedule", "now"),
        ("--schedule", "@daily", "--inputs", "[]"),
        ("--schedule", "@daily", "--timezone", "X"),
    ):
        assert platform.cli("create", "trigger", "backup2.copy", "x", *words).code == 2

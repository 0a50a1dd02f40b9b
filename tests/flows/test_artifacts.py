"""The program of docs/artifacts.md on a platform: made by a task, found by its name, an input of the next run."""

from __future__ import annotations

import json
import re

from tests.platform_fixture import ROOT, Platform

PROGRAM = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "artifacts.md").read_text(), re.M | re.S)[0]
DRIVER = """
import asyncio

import flyte
from flyte.io import File
from flyte.remote import Artifact
from models_of_the_page import evaluate

flyte.init_from_config()
latest = Artifact.get("small-model")
assert [each.version for each in Artifact.listall(name="small-model", attrs={"epochs": ["3", "4"]})] == [latest.version]
used = flyte.run(evaluate, model=latest)
used.wait(quiet=True)
print(used.outputs()[0])
file = asyncio.run(latest.to_python())
own = Artifact.create(file, name="own-model", version="7", external_ref="hub/x", kind="model")
assert (own.source, own.kind, own.tracker) == ("hub/x", "model", "flytesnacks/development/own-model@7")
groups = {group.name: (group.latest.version, group.versions) for group in Artifact.list_names()}
assert groups["small-model"] == (latest.version, 2), groups
assert groups["own-model"] == ("7", 1)
own.delete()
assert "own-model" not in [group.name for group in Artifact.list_names()]
"""


def test_an_artifact_of_a_task_is_found_used_shown_and_deleted(platform: Platform) -> None:
    platform.write("models_of_the_page.py", PROGRAM)
    runs = []
    for epochs in ("2", "3"):
        said = platform.cli("run", "-o", "json", "models_of_the_page.py", "train", "--epochs", epochs)
        assert said.code == 0, said.both
        runs.append(json.loads(said.out)["name"])
    listed = platform.cli("get", "artifact", "small-model", "-o", "json")
    assert listed.code == 0, listed.both
    versions = json.loads(listed.out)
    assert [(each["version"], each["attrs"]["epochs"]) for each in versions] == [
        (f"{runs[1]}.a0", "3"),
        (f"{runs[0]}.a0", "2"),
    ]
    platform.write("uses_models.py", DRIVER)
    used = platform.python("uses_models.py")
    assert (used.code, used.out) == (0, "trained for 3 epochs\n"), used.both
    shown = platform.cli("get", "artifact", "small-model", "latest").out
    assert f"{runs[1]}/a0" in shown
    assert "epochs: 3" in shown
    assert platform.cli("delete", "artifact", "small-model", f"{runs[0]}.a0", "-y").code == 0
    left = json.loads(platform.cli("get", "artifact", "small-model", "-o", "json").out)
    assert [each["version"] for each in left] == [f"{runs[1]}.a0"]
    gone = platform.cli("get", "artifact", "small-model", f"{runs[0]}.a0")
    assert gone.code != 0
    assert "no artifact 'small-model' at version" in gone.err

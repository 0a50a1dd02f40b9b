"""Links of tasks on a platform: with the names that only it knows."""

from __future__ import annotations

import json

from tests.platform_fixture import Platform

PROGRAM = """
import flyte


class Board:
    name = "board"

    def get_link(self, run_name, project, domain, context, parent_action_name, action_name, pod_name, **_):
        return f"https://board.example/{run_name}/{parent_action_name or '-'}/{action_name}/{context.get('team')}"


env = flyte.TaskEnvironment("linked")


@env.task(links=Board())
async def child(x: int) -> int:
    return x


@env.task(links=(Board(),))
async def parent() -> int:
    with flyte.custom_context(team="red"):
        return await child(1)
"""


def test_an_action_shows_its_links_in_the_command_line_and_the_console(platform: Platform) -> None:
    platform.write("linked.py", PROGRAM)
    said = platform.cli("run", "-o", "json", "linked.py", "parent")
    assert said.code == 0, said.both
    run = json.loads(said.out)["name"]
    actions = json.loads(platform.cli("get", "action", run, "-o", "json").out)
    (name,) = (action["name"] for action in actions if action.get("parent"))
    for action, parent, team in (("a0", "-", "None"), (name, "a0", "red")):
        found = json.loads(platform.cli("get", "action", run, action, "-o", "json").out)
        assert [link["uri"] for link in found["links"]] == [f"https://board.example/{run}/{parent}/{action}/{team}"]
    assert f"board  https://board.example/{run}/a0/{name}/red" in platform.cli("get", "action", run, name).out

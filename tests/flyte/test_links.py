"""The links that a task declares: asked for when an action is submitted, and shown with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import flyte
from flyte._declare.links import Submission, links_of
from flyte.remote import ActionDetails


@dataclass
class Board:
    """A link as a plugin has it."""

    name: str = "board"
    icon_uri: str | None = "https://board.example/icon.svg"

    def get_link(
        self,
        run_name: str,
        project: str,
        domain: str,
        context: dict[str, str],
        parent_action_name: str,
        action_name: str,
        pod_name: str,
        **kwargs: Any,
    ) -> str:
        place = f"{project}/{domain}/{run_name}/{parent_action_name}/{action_name}"
        return f"https://board.example/{place}?team={context['team']}"


@dataclass
class Fixed:
    uri: str
    name: str = "fixed"

    def get_link(
        self,
        run_name: str,
        project: str,
        domain: str,
        context: dict[str, str],
        parent_action_name: str,
        action_name: str,
        pod_name: str,
        **kwargs: Any,
    ) -> str:
        return self.uri


env = flyte.TaskEnvironment("links")


@env.task(links=Board())
async def linked() -> None: ...


@env.task(links=[Board(), Fixed("https://docs.example/")])
async def parent() -> None:
    with flyte.custom_context(team="red"):
        await linked()
    await linked.override(links=(Fixed("https://other.example/", "other"),))()


def test_each_action_has_the_links_of_its_task_with_its_own_names_and_context() -> None:
    run = flyte.with_runcontext(custom_context={"team": "blue"}).run(parent)
    run.wait()
    root = ActionDetails.get(run_name=run.name, name="a0")
    place = "flytesnacks/development"
    assert [(link.name, link.uri, link.icon) for link in root.links] == [
        ("board", f"https://board.example/{place}/{run.name}//a0?team=blue", "https://board.example/icon.svg"),
        ("fixed", "https://docs.example/", None),
    ]
    children = [
        ActionDetails.get(run_name=run.name, name=action.name) for action in flyte.remote.Action.listall(run.name)
    ]
    red, other = (child.links for child in children if child.parent_name == "a0")
    assert [link.uri for link in red] == [f"https://board.example/{place}/{run.name}/a0/{children[1].name}?team=red"]
    assert [(link.name, link.uri) for link in other] == [("other", "https://other.example/")]


def test_what_the_submitter_does_not_know_is_left_to_the_platform() -> None:
    (link,) = links_of("t", [Board()], Submission(context={"team": "red"}))
    place = "{{.project}}/{{.domain}}/{{.runName}}/{{.parentActionName}}/{{.actionName}}"
    assert link.uri == f"https://board.example/{place}?team=red"


@pytest.mark.parametrize("uri", ["", "javascript:alert(1)", "/relative", "https://a b", "data:text/html,x"])
def test_a_link_without_an_address_of_the_web_is_left_out(uri: str) -> None:
    assert links_of("t", [Fixed(uri), Fixed("https://docs.example/")], Submission()) == links_of(
        "t", [Fixed("https://docs.example/")], Submission()
    )


def test_a_link_that_raises_is_left_out_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    assert links_of("t", [Board()], Submission()) == []
    assert "the link 'board' of t is left out: KeyError: 'team'" in caplog.text

"""An option counts wherever it may stand on the command line, or it is refused; it is never ignored."""

from __future__ import annotations

import json

import msgspec
import pytest

from flyte import wire
from tests.flyte.cli_world import Shell
from tests.flyte.conftest import Project
from tests.flyte.fake_platform import FakePlatform

INT = wire.InputSpec(name="x", type="int", schema={"type": "integer"}, required=True)
TEXT = wire.InputSpec(name="version", type="str", schema={"type": "string"}, required=True)


def deployed(fake: FakePlatform, version: str, *inputs: wire.InputSpec) -> None:
    interface = wire.InterfaceSpec(inputs=list(inputs))
    fake.task("order.f", lambda **given: json.dumps(given), version=version, interface=interface)


def last_request(fake: FakePlatform) -> wire.RunRequest:
    sent = [seen.body for seen in fake.seen if (seen.method, seen.path) == ("POST", "/v1/runs")]
    return msgspec.json.decode(sent[-1], type=wire.RunRequest)


@pytest.mark.parametrize(
    "words",
    [
        ["--version", "v1", "deployed-task", "order.f", "--x", "3"],
        ["deployed-task", "order.f", "--x", "3", "--version", "v1"],
        ["deployed-task", "order.f", "--version", "v1", "--x", "3"],
        ["deployed-task", "order.f:v1", "--x", "3"],
        ["deployed-task", "order.f:v1", "--x", "3", "--version", "v1"],
    ],
    ids=" ".join,
)
def test_the_version_counts_wherever_it_stands(shell: Shell, fake: FakePlatform, words: list[str]) -> None:
    deployed(fake, "v1", INT)
    deployed(fake, "v2", INT)
    done = shell("run", *words)
    assert done.code == 0, done.err
    assert last_request(fake).version == "v1"


def test_a_version_that_does_not_exist_is_an_error_wherever_it_stands(shell: Shell, fake: FakePlatform) -> None:
    deployed(fake, "v2", INT)
    for words in (["--version", "nope", "deployed-task", "order.f", "--x", "3"],
                  ["deployed-task", "order.f", "--x", "3", "--version", "nope"]):  # fmt: skip
        done = shell("run", *words)
        assert done.code == 2
        assert "nope" in done.err
    assert not fake.runs


def test_two_versions_are_refused(shell: Shell, fake: FakePlatform) -> None:
    deployed(fake, "v1", INT)
    deployed(fake, "v2", INT)
    done = shell("run", "deployed-task", "order.f:v1", "--x", "3", "--version", "v2")
    assert done.code == 2
    assert "'v1'" in done.err
    assert "'v2'" in done.err


def test_the_inputs_are_those_of_the_version_that_is_named_behind_the_task(shell: Shell, fake: FakePlatform) -> None:
    deployed(fake, "v1", msgspec.structs.replace(INT, name="old"))
    deployed(fake, "v2", INT)
    done = shell("run", "deployed-task", "order.f", "--old", "3", "--version", "v1")
    assert done.code == 0, done.err
    assert json.loads(bytes(last_request(fake).inputs)) == {"old": 3}


def test_an_input_of_the_name_of_an_option_is_the_input(shell: Shell, fake: FakePlatform) -> None:
    deployed(fake, "v1", TEXT)
    deployed(fake, "v2", TEXT)
    done = shell("run", "deployed-task", "order.f", "--version", "v1")
    assert done.code == 0, done.err
    assert last_request(fake).version == "v2"
    assert json.loads(bytes(last_request(fake).inputs)) == {"version": "v1"}


@pytest.mark.parametrize("flag", [["-d", "staging"], ["-p", "other"], ["--domain", "staging"], ["--project", "other"]])
@pytest.mark.parametrize("behind", [False, True])
def test_the_task_is_looked_up_where_the_options_say(
    shell: Shell, fake: FakePlatform, flag: list[str], behind: bool
) -> None:
    deployed(fake, "v1", INT)
    task = ["deployed-task", "order.f", "--x", "3"]
    done = shell("run", *([*task, *flag] if behind else [*flag, *task]))
    assert done.code == 0, done.err
    place = "domain" if flag[1] == "staging" else "project"
    asked = [seen.query[place] for seen in fake.seen if seen.path == "/v1/tasks/order.f"]
    assert asked[-1] == flag[1]


def test_what_may_be_repeated_is_added_up_from_both_places(shell: Shell, fake: FakePlatform) -> None:
    deployed(fake, "v1", INT)
    done = shell("run", "-e", "A=1", "--label", "a=1", "deployed-task", "order.f", "--x", "3", "-e", "B=2",
                 "--label", "b=2")  # fmt: skip
    assert done.code == 0, done.err
    assert last_request(fake).env_vars == {"A": "1", "B": "2"}
    assert last_request(fake).labels == {"a": "1", "b": "2"}


@pytest.mark.parametrize("flag", [["--local"], ["--root-dir", "."], ["--copy-style", "all"]])
@pytest.mark.parametrize("behind", [False, True])
def test_what_means_nothing_for_a_deployed_task_is_refused(
    shell: Shell, fake: FakePlatform, flag: list[str], behind: bool
) -> None:
    deployed(fake, "v1", INT)
    task = ["deployed-task", "order.f", "--x", "3"]
    done = shell("run", *([*task, *flag] if behind else [*flag, *task]))
    assert done.code == 2
    assert flag[0] in done.err
    assert not fake.runs


JOB = """
    import flyte
    env = flyte.TaskEnvironment(name="order")

    @env.task
    def f() -> str:
        return __name__
"""


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--root-dir", ".", "sub/job.py", "f"], "sub.job"),
        (["sub/job.py", "f", "--root-dir", "."], "sub.job"),
        (["sub/job.py", "f"], "job"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_root_folder_counts_wherever_it_stands(shell: Shell, project: Project, words: list[str], name: str) -> None:
    project.write("sub/job.py", JOB)
    done = shell("run", "--local", *words)
    assert (done.code, json.loads(done.out)) == (0, name), done.err


def test_an_input_called_root_dir_is_an_input(shell: Shell, project: Project) -> None:
    project.write("job.py", JOB.replace("f()", "f(root_dir: str)").replace("__name__", "__name__ + root_dir"))
    done = shell("run", "--local", "job.py", "f", "--root-dir", "here")
    assert (done.code, done.out) == (0, '"jobhere"\n'), done.err

"""An option counts wherever it may stand on the command line, or it is refused; it is never ignored."""

from __future__ import annotations

import json
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from flyte import wire
from flyte.cli.verbs import ABSENT
from tests.flyte.cli_world import Shell
from tests.flyte.conftest import Project
from tests.flyte.fake_platform import FakePlatform, FakeRun

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


@pytest.mark.parametrize("behind", [False, True])
def test_variables_of_a_local_run_are_there_when_its_file_is_imported(
    shell: Shell, project: Project, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    monkeypatch.setenv("MODE", "")  # so that it is put back
    project.write("job.py", "import os\nMODE = os.environ['MODE']\n" + textwrap.dedent(JOB).replace("__name__", "MODE"))
    words, task = ["-e", "MODE=fast"], ["job.py", "f"]
    done = shell("run", "--local", *([*task, *words] if behind else [*words, *task]))
    assert (done.code, done.out) == (0, '"fast"\n'), done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--local", "--no-follow", "job.py", "f"], "--no-follow means nothing with --local"),
        (["get", "run", "r1", "--in-phase", "failed"], "--in-phase is for the list"),
        (["get", "action", "r1", "a0", "--limit", "3"], "--limit is for the list"),
        (["get", "task", "t", "--limit", "3"], "--limit is for the list"),
        (["get", "app", "a", "--limit", "3"], "--limit is for the list"),
        (["deploy", "-i", "job.py"], "--ignore-load-errors goes with --recursive"),
        (["create", "config", "--insecure"], "--insecure goes with --endpoint"),
        (["create", "project"], "flyte create project NAME"),
        (["create", "project", "a", "--id", "b"], "say one of them"),
        (["get", "runs"], "did you mean `flyte get run`?"),
        (["get", "zebra"], "it has: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_would_change_nothing_is_refused(
    shell: Shell, project: Project, words: list[str], message: str
) -> None:
    project.write("job.py", JOB)
    done = shell(*words)
    assert done.code == 2
    assert message in done.err


@pytest.mark.parametrize("command", ABSENT)
def test_a_command_of_flytes_that_is_not_here_explains_itself(shell: Shell, command: str) -> None:
    done = shell(*command.split(), "x")
    assert done.code == 2
    assert f"Tarmac does not have `flyte {command}`" in done.err
    assert "docs/limits.md" in done.err


@pytest.mark.parametrize("name", ["order.f", "order.f:v1"])
def test_the_full_name_of_a_deployed_task_runs_it(shell: Shell, fake: FakePlatform, name: str) -> None:
    deployed(fake, "v1", INT)
    done = shell("run", name, "--x", "3")
    assert done.code == 0, done.err
    assert last_request(fake).version == "v1"


def test_a_project_is_made_by_its_name(shell: Shell, fake: FakePlatform) -> None:
    assert shell("create", "project", "shop").code == 0
    assert (fake.projects[-1].id, fake.projects[-1].name) == ("shop", "shop")
    assert shell("create", "project", "--id", "mall", "--name", "The mall").code == 0
    assert (fake.projects[-1].id, fake.projects[-1].name) == ("mall", "The mall")


@pytest.mark.parametrize(
    ("content", "flags", "stored"),
    [
        ("s3cr3t\n", [], "s3cr3t"),
        ("s3cr3t\r\n", [], "s3cr3t"),
        ("s3cr3t", [], "s3cr3t"),
        ("s3cr3t\n", ["--keep-newline"], "s3cr3t\n"),
        ("-----BEGIN-----\nabc\n", [], "-----BEGIN-----\nabc\n"),
    ],
)
def test_the_newline_at_the_end_of_a_secrets_only_line_is_left_out_and_that_is_said(
    shell: Shell, fake: FakePlatform, content: str, flags: list[str], stored: str
) -> None:
    Path("key.txt").write_bytes(content.encode())
    done = shell("create", "secret", "hmac", "--from-file", "key.txt", *flags)
    assert done.code == 0, done.err
    assert fake.values["hmac"] == stored
    assert ("--keep-newline keeps it" in done.err) == (stored != content)


def test_the_help_of_a_group_is_in_whole_sentences(shell: Shell) -> None:
    for verb in ("get", "create", "update", "delete", "abort"):
        done = shell(verb, "--help")
        assert done.code == 0
        assert "..." not in done.out.partition("Commands:")[2].partition("Examples")[0]


def ran(fake: FakePlatform, name: str, task: str, phase: str = "succeeded", created: float = 1.0) -> None:
    record = wire.Run(
        name=name, project="flytesnacks", domain="development", task=task, version="v1",
        phase=wire.ActionPhase(phase), url="u", created=created,
    )  # fmt: skip
    fake.runs[name] = FakeRun(record, b"{}", wire.RunRequest(task=task))


def test_runs_are_found_by_a_part_of_the_name_and_by_how_long_ago(shell: Shell, fake: FakePlatform) -> None:
    ran(fake, "old", "report.daily", created=time.time() - 7200)
    ran(fake, "new", "report.Daily_all", "failed", time.time() - 60)
    ran(fake, "other", "fetch.one", "timed_out", time.time() - 60)
    for words, names in (
        (["--task-name", "DAILY"], ["new", "old"]),
        (["--created-after", "1h"], ["other", "new"]),
        (["--created-before", "1h"], ["old"]),
        (["--in-phase", "failed,timed-out"], ["other", "new"]),
        (["--in-phase", "failed", "--in-phase", "succeeded"], ["new", "old"]),
    ):
        assert shell("get", "run", *words, "-o", "name").out.split() == names, words


def test_a_filter_that_nothing_fits_says_how_many_there_are(shell: Shell, fake: FakePlatform) -> None:
    ran(fake, "a", "report.daily")
    ran(fake, "b", "report.daily")
    done = shell("get", "run", "--task-name", "nothing")
    assert (done.code, done.err) == (0, "no run fits; without the filters there are 2\n")


@pytest.mark.parametrize(
    "words",
    [["--created-after", "1x"], ["--in-phase", "flying"], ["--with-label", "team"], ["--with-label", "team=a,b"]],
)
def test_a_filter_that_means_nothing_is_refused(shell: Shell, words: list[str]) -> None:
    assert shell("get", "run", *words).code == 2


@pytest.mark.parametrize("noun", ["run", "task", "app", "secret"])
def test_a_project_that_does_not_exist_is_named(shell: Shell, noun: str) -> None:
    done = shell("get", noun, "-p", "nosuchproject")
    assert done.code == 2
    assert "There is no project 'nosuchproject'; there are: flytesnacks" in done.err

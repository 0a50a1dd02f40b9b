"""Records and frames are checked as a whole, by the rules that their fields name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.errors import InvalidInputError
from flyte.wire import AppSpec, DeployRequest, EnvironmentSpec, ReuseSpec, RunRequest, TaskSpec
from tarmac import checks


def task(**environment: Any) -> DeployRequest:
    spec = EnvironmentSpec(name="env", kind="task", **environment)
    return DeployRequest(version="v1", tasks=[TaskSpec(name="env.add", entry="module:add", environment=spec)])


def app(**changes: Any) -> DeployRequest:
    environment = EnvironmentSpec(name="app", kind="app")
    spec = AppSpec(name="app", environment=environment, kind="command", argv=["true"])
    return DeployRequest(version="v1", apps=[msgspec.structs.replace(spec, **changes)])


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (task(env_vars={"DEBUG=1": ""}), "tasks[0].environment.env_vars['DEBUG=1']"),
        (task(reuse=ReuseSpec(concurrency=0)), "tasks[0].environment.reuse.concurrency"),
        (task(reuse=ReuseSpec(min_replicas=3, max_replicas=2)), "tasks[0].environment.reuse"),
        (app(request_timeout=1e308), "apps[0].request_timeout"),
        (app(name="../x"), "apps[0].name"),
        (app(argv=["a\0b"]), "apps[0].argv[0]"),
        (RunRequest(task="env.add", inputs=msgspec.Raw(b"[" * 5_000)), "inputs"),
        (RunRequest(task="env.add", labels={"a": "b\n"}), "labels['a']"),
        (wire.KeyRequest(name=""), "name"),
        (wire.Project(id="../../x"), "id"),
        (wire.Finished(run="r", action="a0", attempt=2**40), "attempt"),
        (wire.Progress(run="r", action="a0", attempt=1, message="", body={"a": float("nan")}), "body['a']"),
    ],
)
def test_what_breaks_a_rule_is_told_with_its_place(record: msgspec.Struct, place: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        checks.check(record)
    assert f" at {place} must " in str(refused.value)


@pytest.mark.parametrize("record", [task(env_vars={"A": "1"}, reuse=ReuseSpec()), app(), RunRequest(task="add")])
def test_what_keeps_the_rules_passes(record: msgspec.Struct) -> None:
    assert checks.problem(record) is None


def test_what_a_program_printed_may_hold_anything() -> None:
    error = wire.ErrorInfo(code="ValueError", message="a\0b", traceback="\0")
    assert checks.problem(wire.Finished(run="r", action="a0", attempt=1, error=error)) is None


def test_what_was_stored_before_a_rule_existed_can_still_be_read() -> None:
    stored = msgspec.json.encode(app(name="../x", request_timeout=1e308))
    assert msgspec.json.decode(stored, type=DeployRequest).apps[0].name == "../x"


def test_an_item_that_may_be_none_is_checked_where_it_is_not() -> None:
    given = wire.ParameterSpec(name="model", kind="value")
    assert checks.problem(given) is None
    assert checks.problem(msgspec.structs.replace(given, artifact_place=("shop", None))) is None
    found = checks.problem(msgspec.structs.replace(given, artifact_place=(None, "a\0b")))
    assert "artifact_place[1]" in str(found)

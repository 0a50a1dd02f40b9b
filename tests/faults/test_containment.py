"""One bad thing in a platform that is otherwise well: it fails or is left out by its name, and nothing else is hurt."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from flyte import wire
from flyte._ship.bundle import pack
from tests.faults.world import World
from tests.platform_fixture import ROOT, Platform

POISON = """
import os, sys

if "tarmac.fork_server" in sys.orig_argv:
    from tarmac.control.runs.runs import Runs

    restore = Runs.restore

    def end_at(self, row, *rest):
        if row.name.startswith("poison"):
            os._exit(11)  # as a crash of the interpreter would
        restore(self, row, *rest)

    Runs.restore = end_at
"""


OLD_NAMES = ("a/b", "..", "")
"""Of apps, from before there were rules for names."""


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def damaged() -> bytes:
    """A bundle that cannot be decompressed."""
    data = bytearray(pack({"data": (os.urandom(20_000).hex().encode(), False)}))
    data[10_000:10_010] = b"\xff" * 10
    return bytes(data)


def with_variable(name: str, value: str) -> Callable[[wire.TaskSpec], wire.TaskSpec]:
    def change(spec: wire.TaskSpec) -> wire.TaskSpec:
        environment = msgspec.structs.replace(spec.environment, env_vars={name: value})
        return msgspec.structs.replace(spec, environment=environment)

    return change


def stored_otherwise(database: Path, task: str, change: Callable[[wire.TaskSpec], wire.TaskSpec]) -> None:
    """Change a registered task as no API would take it."""
    with sqlite3.connect(database) as connection:
        [(raw,)] = connection.execute("select spec from tasks where name = ?", (task,)).fetchall()
        spec = change(msgspec.json.decode(raw, type=wire.TaskSpec))
        connection.execute("update tasks set spec = ? where name = ?", (msgspec.json.encode(spec), task))
    connection.close()


def test_the_platform_comes_up_without_what_ends_it_and_says_so(
    fresh: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack
) -> None:
    platform, opens = fresh.platform, fresh.platform.work / "opens"
    for name in ("poison-1", "poison-2", "good"):
        fresh.run("gate", name=name, opens=str(opens))
    platform.down()
    with sqlite3.connect(platform.home / "tarmac.db") as database:
        digest = hashlib.sha256(b"nameless").hexdigest()
        database.execute(
            "insert into keys (id, name, digest, created, last_used, scopes) values ('k1', '', ?, 0, null, '[]')",
            (digest,),
        )
        for number, name in enumerate(OLD_NAMES):
            database.execute(
                "insert into apps values ('flytesnacks', 'development', ?, ?, null, 'stopped', 'stopped', '', 0, 0, "
                "'{}', '{}')",
                (name, 39_000 + number),
            )
    database.close()
    (tmp_path / "sitecustomize.py").write_text(POISON)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(ROOT / "src"))))
    done = platform.cli("up", "--port", "0", timeout=90)
    assert done.code == 0, f"{done.both}\n{platform.log_tails()}"
    opens.touch()
    world = again(platform, stack)
    assert world.result("good")["phase"] == "succeeded"
    for name in ("poison-1", "poison-2"):
        assert f"left out: run {name}: loading it has ended the control plane 2 times in a row" in done.out
        failed = world.state(name)
        assert failed["phase"] == "failed"
        assert "loading it has ended the control plane 2 times" in failed["error"]["message"]
    for name in OLD_NAMES:
        deleted = platform.cli("delete", "app", "--yes", name)
        assert deleted.code == 0, deleted.both
    assert platform.cli("get", "app", "-o", "json").out.strip() == "[]"
    shown = platform.cli("status").out
    assert "left out: run poison-1" in shown
    assert "left out: an API key: the API key '': its name is empty" in shown
    platform.down()
    platform.up()
    assert "poison" not in platform.cli("status").out


def test_impossible_variables_and_a_damaged_bundle_fail_their_runs_alone(
    fresh: World, stack: contextlib.ExitStack
) -> None:
    platform, opens = fresh.platform, fresh.platform.work / "opens"
    bad = damaged()
    digest = hashlib.sha256(bad).hexdigest()
    fresh.call("PUT", f"/v1/bundles/{digest}", bad)
    torn = msgspec.structs.replace(_named(fresh, "faulty.gate"), name="faulty.torn", short_name="torn")
    request = wire.DeployRequest(version="v2", bundle=digest, tasks=[torn])
    fresh.call("POST", "/v1/deployments", msgspec.json.encode(request))
    platform.down()
    stored_otherwise(platform.home / "tarmac.db", "faulty.leaf", with_variable("DEBUG=1", ""))
    platform.up()
    world = again(platform, stack)
    beside = world.run("gate", opens=str(opens))
    world.noted("gate")
    failed = world.result(world.run("faulty.leaf", n=2))
    assert "'DEBUG=1' is not a valid name of an environment variable" in failed["error"]["message"]
    name = f"t{os.urandom(8).hex()}"
    inputs = {"where": str(world.notes), "opens": str(opens)}
    world.call("POST", "/v1/runs", {"task": "faulty.torn", "name": name, "inputs": inputs})
    failed = world.result(name)
    assert "cannot be unpacked: it is damaged" in failed["error"]["message"]
    opens.touch()
    assert world.result(beside)["phase"] == "succeeded"
    assert world.told()["agent"]["restarts"] == 0


def again(platform: Platform, stack: contextlib.ExitStack) -> World:
    """A platform that was started anew."""
    world = World(platform)
    stack.callback(world.http.close)
    return world


def _named(world: World, task: str) -> wire.TaskSpec:
    spec = msgspec.json.decode(world.http.get(f"/v1/tasks/{task}").content, type=wire.Task).spec
    assert spec is not None
    return spec

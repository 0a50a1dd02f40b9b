"""An environment belongs to the module that asked for it, whichever module its class or its factory is in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte._session import state as _state
from flyte._ship import deploy as _deploy
from flyte.errors import CodeBundleError
from flyte.runtime import loader, worker
from tests.flyte.cli_world import Shell
from tests.flyte.conftest import Project
from tests.flyte.fake_platform import FakePlatform

FACTORY = """
import functools
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

class Ours(FastAPIAppEnvironment):
    def __post_init__(self):
        self.requires_auth = False
        super().__post_init__()

class Chatty(flyte.TaskEnvironment):
    def __init__(self, name, **fields):
        super().__init__(name=name, **fields)

def make_app(name, **fields):
    return FastAPIAppEnvironment(name=name, app=FastAPI(), **fields)

def make_env(name, **fields):
    return flyte.TaskEnvironment(name=name, include=["prompt.txt"], **fields)

def double(x: int) -> int:
    return 2 * x

def loud(func):
    @functools.wraps(func)
    def call(*args, **kwargs):
        return func(*args, **kwargs)
    return call
"""

PROGRAM = """
from fastapi import FastAPI
from acme.envs import Chatty, Ours, double, loud, make_app, make_env

made = make_app("made", include=["page.html"])
own = Ours(name="own", app=FastAPI())
env = make_env("tasks")
chatty = Chatty("chatty")
twice = env.task(double)

@chatty.task
@loud
def said(x: int) -> int:
    return x
"""


@pytest.fixture
def program(project: Project) -> Any:
    project.write("acme/__init__.py", "")
    project.write("acme/envs.py", FACTORY)
    project.write("acme/prompt.txt", "hello")
    project.write("page.html", "<p>")
    return project.load(PROGRAM)


def entries(*envs: flyte.Environment) -> dict[str, str]:
    request = _deploy.plan(envs).request
    return {task.name: task.entry for task in request.tasks} | {app.name: app.entry for app in request.apps}


def test_an_app_that_a_factory_or_a_subclass_made_is_found_in_the_module_that_asked_for_it(program: Any) -> None:
    found = entries(program.made, program.own)
    assert found == {"made": "program:made", "own": "program:own"}
    assert [loader.resolve(entry) for entry in found.values()] == [program.made, program.own]


def test_a_task_made_of_a_librarys_function_is_found_in_the_module_that_made_it(program: Any) -> None:
    found = entries(program.env, program.chatty)
    assert found == {"tasks.double": "program:twice", "chatty.said": "program:said"}
    assert loader.resolve("program:twice") is program.twice


def test_an_environment_knows_the_module_that_asked_for_it(program: Any) -> None:
    for env in (program.made, program.own, program.env, program.chatty):
        assert env.module == "program"
        assert env.declared_in == Path("program.py").absolute()


def test_files_are_included_from_beside_the_caller_and_from_beside_the_factory(program: Any) -> None:
    assert program.made.include_files() == [Path("page.html").absolute()]
    assert program.env.include_files() == [Path("acme/prompt.txt").absolute()]


def test_an_app_that_no_module_holds_is_refused(program: Any) -> None:
    env = program.make_app("lost")
    with pytest.raises(CodeBundleError, match=r"lost is not a variable of .*assign it at a module's top level"):
        env.spec(_state.root_dir())


WRAPPED = """
import flyte
from acme.envs import loud

env = flyte.TaskEnvironment("wrapped")
other = flyte.TaskEnvironment("other")

@loud
@env.task
def f(x: int) -> int:
    return x

@other.task
def g() -> int:
    return 1

first = other.tasks["other.g"]
del first

@env.task
def g() -> int:
    return 2
"""


def test_a_task_that_a_decorator_wraps_is_refused_before_anything_is_sent(
    project: Project, program: Any, connected: FakePlatform
) -> None:
    wrapped = project.load(WRAPPED, "wrapped")
    with pytest.raises(CodeBundleError, match=r"wrapped\.f is a function, not a task; is it wrapped by a decorator"):
        flyte.deploy(wrapped.env)
    with pytest.raises(TypeError, match=r"a decorator above @env\.task wraps the task: put @env\.task on top"):
        flyte.run(wrapped.f, x=1)
    with pytest.raises(
        CodeBundleError, match=r"wrapped\.g is another AsyncFunctionTaskTemplate, .* rename one of them"
    ):
        flyte.deploy(wrapped.other)
    assert not connected.bundles


def test_a_command_says_that_a_decorator_wraps_the_task(shell: Shell, project: Project, program: Any) -> None:
    project.write("wrapped.py", WRAPPED)
    done = shell("run", "wrapped.py", "f", "--x", "1")
    assert done.code == 2
    assert "f in wrapped.py is not a task; is it wrapped by a decorator above @env.task?" in done.err


def test_a_worker_says_that_a_decorator_wraps_the_task(project: Project, program: Any) -> None:
    project.load(WRAPPED, "wrapped")
    with pytest.raises(loader.BrokenImport, match=r"is it wrapped by a decorator above @env\.task"):
        worker.load("wrapped:f")


def test_an_app_that_is_handed_on_is_found_in_the_module_that_holds_it(project: Project, program: Any) -> None:
    project.load("import acme.envs\n\ndef build():\n    return acme.envs.make_app('handed')\n", "builder")
    holder = project.load("import builder\nenvs = [builder.build()]\nenv, = envs\n", "holder")
    assert entries(holder.env) == {"handed": "holder:env"}
    assert sys.modules["holder"] is holder

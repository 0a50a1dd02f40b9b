"""A module that starts something at its top level is refused where it is imported for what it declares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte import wire
from flyte.errors import ModuleLoadError
from flyte.runtime import loader
from tests.flyte.cli_world import Shell
from tests.flyte.conftest import Project
from tests.flyte.fake_platform import FakePlatform

GUARD = 'put the call under `if __name__ == "__main__":`'

TASK = """
import flyte

env = flyte.TaskEnvironment(name="ng")

@env.task
def f(x: int) -> int:
    return x + 1

"""

CALLS = {
    "flyte.run": "flyte.run(f, x=1)",
    "flyte.serve": "import flyte.app\nflyte.serve(flyte.app.AppEnvironment(name='a', args='sleep 9'))",
    "flyte.deploy": "flyte.deploy(env)",
    "flyte.rerun": "flyte.rerun('r1')",
    "a run with settings": "flyte.with_runcontext(mode='local').run(f, x=1)",
    "an awaited run": "import asyncio\nasyncio.run(flyte.run.aio(f, x=1))",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_worker_that_imports_a_script_without_a_guard_names_the_guard(project: Project, call: str) -> None:
    project.write("prog.py", TASK + call)
    with pytest.raises(loader.BrokenImport) as caught:
        loader.import_modules(["prog"])
    message = caught.value.info.message
    assert message.startswith("cannot import module 'prog': flyte.")
    assert GUARD in message
    assert "prog.py" in caught.value.info.traceback


def test_what_was_refused_while_a_module_was_imported_is_allowed_afterwards(project: Project) -> None:
    program: Any = project.load(TASK + "def later():\n    return flyte.with_runcontext(mode='local').run(f, x=1)\n")
    loader.import_modules(["program"])
    assert program.later().outputs()[0] == 2


def test_a_context_that_a_module_keeps_from_its_import_starts_runs_afterwards(project: Project) -> None:
    project.write("prog.py", TASK + "import contextvars\nkept = contextvars.copy_context()\n")
    loader.import_modules(["prog"])
    program: Any = sys.modules["prog"]
    run = program.kept.run(lambda: flyte.with_runcontext(mode="local").run(program.f, x=1))
    assert run.outputs()[0] == 2


def test_a_module_that_catches_the_refusal_is_imported(project: Project) -> None:
    project.write(
        "prog.py", TASK + "try:\n    flyte.run(f, x=1)\nexcept flyte.errors.ModuleLoadError as e:\n    no = e\n"
    )
    loader.import_modules(["prog"])
    assert isinstance(sys.modules["prog"].no, ModuleLoadError)


@pytest.mark.parametrize(
    "words", [["run", "prog.py", "f", "--x", "1"], ["deploy", "prog.py"], ["serve", "prog.py", "env"]]
)
def test_a_command_that_imports_a_script_without_a_guard_names_the_guard(
    shell: Shell, fake: FakePlatform, project: Project, words: list[str]
) -> None:
    project.write("prog.py", TASK + "flyte.init_from_config()\nflyte.run(f, x=1)\n")
    done = shell(*words)
    assert done.code != 0
    assert "prog.py cannot be imported: flyte.run is called" in done.err
    assert GUARD in done.err
    assert "Traceback" not in done.err
    assert not fake.runs


def test_an_app_served_from_a_script_without_a_guard_starts_once(project: Project) -> None:
    script = project.write(
        "prog.py",
        """
        import flyte, flyte.app

        print("imported as", __name__, flush=True)
        env = flyte.app.AppEnvironment(name="low")

        @env.server
        async def serve():
            pass

        flyte.serve(env)
        """,
    )
    environ = {"PYTHONPATH": str(Path(flyte.__file__).parents[1]), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, env=environ)
    assert done.returncode == 1
    assert GUARD in done.stderr
    assert (done.stdout + done.stderr).count("imported as") == 2


def test_the_reason_has_the_code_of_a_module_that_cannot_be_loaded(project: Project) -> None:
    project.write("prog.py", TASK + "flyte.run(f, x=1)\n")
    with pytest.raises(loader.BrokenImport) as caught:
        loader.import_modules(["prog"])
    assert caught.value.info == wire.ErrorInfo(
        code="ModuleLoadError",
        message=caught.value.info.message,
        type="flyte.errors:ModuleLoadError",
        traceback=caught.value.info.traceback,
    )

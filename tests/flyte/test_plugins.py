"""What plugins rely on: entry points, private modules of Flyte's, and `execute` of a task."""

from __future__ import annotations

import builtins
import importlib
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte import _plugins
from flyte._values import registered, to_json
from flyte.cli import plugin_commands
from flyte.cli._main import VERBS
from flyte.models import NativeInterface
from flyte.types import TypeEngine
from tests.flyte.cli_world import Shell

Install = Callable[..., None]

TYPES = """
from flyteidl2.core import literals_pb2, types_pb2
from flyte.types import TypeEngine, TypeTransformer


class Money:
    def __init__(self, cents):
        self.cents = cents


class MoneyTransformer(TypeTransformer[Money]):
    def __init__(self):
        super().__init__("Money", Money)

    def get_literal_type(self, t):
        return types_pb2.LiteralType(simple=types_pb2.SimpleType.INTEGER)

    async def to_literal(self, python_val, python_type, expected):
        primitive = literals_pb2.Primitive(integer=python_val.cents)
        return literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=primitive))


def register():
    TypeEngine.register(MoneyTransformer())
"""
COMMANDS = """
import click

@click.command()
@click.argument("name")
def greet(name):
    \"\"\"Greet somebody.\"\"\"
    click.echo(f"hello {name}")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a plugin: a module, and a distribution with entry points."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(_plugins, "_types_are_loaded", False)
    monkeypatch.setattr(TypeEngine, "_REGISTRY", dict(TypeEngine._REGISTRY))
    monkeypatch.setattr(registered, "_makers", dict(registered._makers))
    plugin_commands.all_of.cache_clear()
    names = []

    def put(name: str, code: str, **groups: str) -> None:
        (site / f"{name}.py").write_text(code)
        info = site / f"flyteplugins_{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: flyteplugins-{name}\nVersion: 1.2\n")
        rows = {"types": _plugins.TYPES, "commands": _plugins.COMMANDS}
        text = "".join(f"[{rows[group]}]\n{lines}\n" for group, lines in groups.items())
        (info / "entry_points.txt").write_text(text)
        names.append(name)

    yield put
    plugin_commands.all_of.cache_clear()
    for name in names:
        sys.modules.pop(name, None)


def test_a_plugins_types_are_known_when_one_of_them_is_needed(install: Install) -> None:
    install("money", TYPES, types="money = money:register")
    money: Any = importlib.import_module("money")
    assert money.Money not in registered._makers
    assert to_json({"a": money.Money(5)}, types.GenericAlias(dict, (str, money.Money))) == {"a": 5}


def test_a_broken_plugin_is_named_and_the_others_are_loaded(
    install: Install, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("money", TYPES, types="money = money:register")
    install("broken", "raise RuntimeError('too old')", types="broken = broken:register")
    install("absent", "", types="absent = absent:register")
    monkeypatch.setattr(flyte.system_logger, "propagate", True)
    money: Any = importlib.import_module("money")
    assert to_json(money.Money(5), money.Money) == 5
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("the plugin absent (of flyteplugins-absent 1.2) cannot be loaded")
    assert "the plugin broken (of flyteplugins-broken 1.2)" in said[1]
    assert "RuntimeError: too old. Upgrade or uninstall it." in said[1]


def test_types_of_plugins_can_be_left_out(install: Install) -> None:
    install("money", TYPES, types="money = money:register")
    money: Any = importlib.import_module("money")
    flyte.init(load_plugin_type_transformers=False)
    with pytest.warns(UserWarning, match="a Money travels as a pickle"):
        assert set(to_json(money.Money(5), money.Money)) == {"$pickle"}


def test_a_program_without_plugins_does_not_load_the_metadata_of_what_is_installed(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, flyte._values as v; from flyte._plugins import _texts; "
        "v.to_json(pathlib.Path('x'), pathlib.Path); print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "False\n"


# --- commands


def test_a_plugins_command_is_one_of_flytes(install: Install, shell: Shell) -> None:
    install("hello", COMMANDS, commands="hello = hello:greet\nget.greeting = hello:greet")
    said = shell("hello", "you")
    assert (said.code, said.out) == (0, "hello you\n")
    assert shell("get", "greeting", "all").out == "hello all\n"


def test_the_help_lists_a_plugins_commands_and_does_not_import_them(install: Install, shell: Shell) -> None:
    install("hello", "raise RuntimeError('imported')", commands="hello = hello:greet\nget.greeting = hello:greet")
    said = shell("--help")
    assert (said.code, said.err) == (0, "")
    assert re.search(r"hello +Of flyteplugins-hello 1\.2\.", said.out)
    assert "greeting" in shell("get", "--help").out


def test_a_command_of_a_broken_plugin_names_it_and_other_commands_work(install: Install, shell: Shell) -> None:
    install("hello", "raise RuntimeError('too old')", commands="hello = hello:greet")
    said = shell("hello", "you")
    assert said.code == 2
    assert "the plugin hello (of flyteplugins-hello 1.2) cannot be loaded: RuntimeError: too old." in said.err
    assert shell("run", "--help").code == 0


def test_what_a_plugin_gives_must_be_a_command(install: Install, shell: Shell) -> None:
    install("hello", "greet = 5", commands="hello = hello:greet")
    said = shell("hello")
    assert said.code == 2
    assert "gives a int, which is not a command" in said.err


def test_a_command_of_ours_is_not_replaced(install: Install, shell: Shell) -> None:
    install("hello", COMMANDS, commands="run = hello:greet\nget.run = hello:greet")
    assert "hello" not in shell("run", "you").out
    assert shell("--help").out.count("\n  run ") == 1
    assert "Greet somebody" not in shell("get", "run", "--help").out


# --- tasks, as decorators of plugins change them


env = flyte.TaskEnvironment(name="wrapped")


def noted(task: Any) -> Any:
    """A decorator above @env.task, in the way of plugins that record experiments."""
    changed = task.override(short_name="noted")
    former = changed.execute

    async def execute(*args: Any, **kwargs: Any) -> Any:
        flyte.ctx().data["note"] = "n"
        return f"<{await former(*args, **kwargs)}>"

    changed.execute = execute
    return changed


@noted
@env.task
async def waits(text: str) -> str:
    return f"{text}{flyte.ctx().data['note']}"


@noted
@env.task
def blocks(text: str) -> str:
    return f"{text}{flyte.ctx().data['note']}"


@env.task
async def both(text: str) -> list[str]:
    return [await waits(text), await blocks.aio(text)]


async def test_what_a_plugin_put_in_the_place_of_execute_runs_in_every_action() -> None:
    run = await flyte.with_runcontext(mode="local").run.aio(both, "x")
    await run.wait.aio(quiet=True)
    assert (await run.outputs.aio())[0] == ["<xn>", "<xn>"]


def test_a_call_outside_of_a_run_is_the_functions_own() -> None:
    with pytest.raises(KeyError, match="note"):
        blocks("x")


def test_a_tasks_native_interface_has_its_types_and_defaults() -> None:
    async def step(number: int, name: str = "n") -> tuple[int, str]:
        return number, name

    found = NativeInterface.from_callable(step)
    assert found.inputs["number"][0] is int
    assert found.inputs["name"] == (str, "n")
    assert found.outputs == {"o0": int, "o1": str}
    assert found.required_inputs() == ["number"]
    assert found.convert_to_kwargs(1, name="x") == {"number": 1, "name": "x"}
    assert found.json_schema == {
        "type": "object",
        "properties": {"number": {"type": "integer"}, "name": {"type": "string"}},
        "required": ["number"],
    }
    assert waits.native_interface.get_input_types() == {"text": str}
    with pytest.raises(ValueError, match="3 positional arguments were given; the inputs are number, name"):
        found.convert_to_kwargs(1, "x", 2)


# --- private modules of Flyte's


@pytest.mark.parametrize(
    "statement",
    [
        "from flyte._task import AsyncFunctionTaskTemplate, TaskTemplate",
        "from flyte._utils import lazy_module",
        "from flyte.types._type_engine import CACHE_KEY_METADATA, MESSAGEPACK, SERIALIZATION_FORMAT, TypeEngine",
        "from flyte._logging import logger",
    ],
)
def test_what_plugins_import_of_flytes_private_modules_is_here(statement: str) -> None:
    exec(statement)


def test_a_lazy_module_is_executed_when_it_is_used(install: Install) -> None:
    install("slow", "import builtins; builtins.slow_was_executed = True; WORD = 'w'")
    module = flyte.extend.lazy_module("slow")
    assert not hasattr(builtins, "slow_was_executed")
    assert module.WORD == "w"
    assert hasattr(builtins, "slow_was_executed")
    delattr(builtins, "slow_was_executed")


def test_a_lazy_module_that_is_not_installed_says_so_when_it_is_used() -> None:
    module = flyte.extend.lazy_module("nowhere")
    with pytest.raises(ImportError, match="Module nowhere is not yet installed: pip install nowhere"):
        _ = module.anything


# --- the official distribution


@pytest.mark.parametrize("verb", [name for name, verb in VERBS.items() if verb.heading])
def test_every_command_says_that_the_official_distribution_is_in_the_way(
    verb: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flyte-2.12.1.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    from flyte.official import refuse_official

    refuse_official.cache_clear()
    try:
        said = shell(verb)
    finally:
        refuse_official.cache_clear()
    assert said.code == 2
    assert "the official `flyte` 2.12.1 is installed beside tarmac" in said.err


def test_files_of_the_official_package_between_ours_are_told_at_the_first_use(tmp_path: Path) -> None:
    shutil.copytree(Path(flyte.__file__).parent, tmp_path / "flyte", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "flyte" / "_initialize.py").touch()
    code = "import flyte; print('imported')\ntry: flyte.TaskEnvironment\nexcept Exception as error: print(error)"
    env = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, env=env, cwd=tmp_path
    )
    said = done.stdout.splitlines()
    assert said[0] == "imported"
    assert f"files of the official `flyte` lie between those of tarmac ({tmp_path / 'flyte'})" in said[1]

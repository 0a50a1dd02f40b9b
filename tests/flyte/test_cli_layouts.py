"""Layouts of projects: what a file imports here is shipped, or the message says what to add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.flyte.cli_world import Shell
from tests.flyte.conftest import Project

TASK = 'import flyte\n{}\nenv = flyte.TaskEnvironment(name="{}")\n\n@env.task\ndef {}(x: int) -> int:\n    return x\n'


def planned(shell: Shell, *words: str) -> Any:
    """What a deploy would send."""
    done = shell("deploy", "--dry-run", "-o", "json", *words)
    assert done.code == 0, done.err
    return json.loads(done.out)


def entries(plan: Any) -> dict[str, str]:
    return {task["name"]: task["entry"] for task in plan["tasks"]}


@pytest.fixture
def src(project: Project) -> Path:
    """A project whose package, with imports of both kinds, lies in `src`."""
    project.write("setup.py", "raise RuntimeError('setup is not for import')\n")
    project.write("src/shop/__init__.py", "")
    project.write("src/shop/conf.py", "RATE = 3\n")
    project.write("src/shop/sub/__init__.py", "")
    project.write("src/shop/sub/jobs.py", TASK.format("from ..conf import RATE\nfrom shop import conf", "one", "job"))
    project.write("examples/use.py", TASK.format("from shop.sub.jobs import job", "two", "used"))
    return project.root


def test_a_package_is_deployed_from_the_folder_above_it(shell: Shell, src: Path) -> None:
    plan = planned(shell, "-r", "src/shop")
    assert entries(plan) == {"one.job": "shop.sub.jobs:job"}
    assert plan["sys_path"] == []


def test_a_project_is_deployed_with_its_src_folder(shell: Shell, src: Path) -> None:
    done = shell("deploy", "-r", ".", "-i", "--dry-run")
    assert "setup is not for import" in done.err
    assert "pip install shop" not in done.err
    (src / "setup.py").unlink()
    plan = planned(shell, "-r", ".")
    assert entries(plan) == {"one.job": "shop.sub.jobs:job", "two.used": "examples.use:used"}
    assert plan["sys_path"] == ["src"]


def test_a_file_in_src_is_found_from_the_root_of_the_project(shell: Shell, src: Path) -> None:
    plan = planned(shell, "src/shop/sub/jobs.py", "--root-dir", ".")
    assert (entries(plan), plan["sys_path"]) == ({"one.job": "shop.sub.jobs:job"}, ["src"])


def test_folders_without_a_package_keep_their_place_under_the_root(shell: Shell, project: Project) -> None:
    project.write("a/jobs.py", TASK.format("", "one", "f"))
    project.write("b/jobs.py", TASK.format("", "two", "f"))
    assert entries(planned(shell, "-r", ".")) == {"one.f": "a.jobs:f", "two.f": "b.jobs:f"}


def test_a_module_in_src_is_named_with_the_call_that_ships_it(
    shell: Shell, src: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = shell("deploy", "examples/use.py", "--dry-run")
    assert f"shop is in {src / 'src'}; ship it too: PYTHONPATH=src flyte … --root-dir ." in done.err
    monkeypatch.syspath_prepend("src")  # what PYTHONPATH=src does
    plan = planned(shell, "examples/use.py", "--root-dir", ".")
    assert entries(plan) == {"two.used": "examples.use:used"}
    assert "src" in plan["sys_path"]


@pytest.fixture
def billing(project: Project) -> Path:
    """A script whose siblings are found from the folder above: packages without an `__init__.py`."""
    project.write("corp/util/tax.py", "def vat(x):\n    return x * 2\n")
    project.write("corp/billing/jobs.py", TASK.format("from corp.util.tax import vat", "nsp", "bill"))
    return project.root


def test_what_a_script_imports_by_pythonpath_is_shipped(
    shell: Shell, billing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", ".")
    assert "with 2 files of code" in shell("deploy", "corp/billing/jobs.py", "--dry-run").err


def test_a_script_is_found_in_its_folder_below_the_root_that_pythonpath_names(
    shell: Shell, billing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", ".")
    plan = planned(shell, "corp/billing/jobs.py")
    assert (entries(plan), plan["sys_path"]) == ({"nsp.bill": "jobs:bill"}, ["corp/billing"])


def test_a_script_that_imports_nothing_by_pythonpath_keeps_its_own_folder_as_root(
    shell: Shell, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("corp/jobs.py", TASK.format("import flyte.app", "alone", "f"))
    monkeypatch.setenv("PYTHONPATH", ".")
    assert planned(shell, "corp/jobs.py")["sys_path"] == []


@pytest.mark.parametrize(
    ("name", "source", "owner"),
    [
        ("email", "import email.parser", "the module 'email' of Python's standard library"),
        ("queue", "from queue import Queue", "the module 'queue' of Python's standard library"),
        ("pydantic", "from pydantic import BaseModel", "the installed package 'pydantic'"),
        ("queue", "import queue\nqueue.Queue()", "the module 'queue' of Python's standard library"),
    ],
)
def test_a_file_that_hides_another_module_is_named(
    shell: Shell, project: Project, monkeypatch: pytest.MonkeyPatch, name: str, source: str, owner: str
) -> None:
    import sys

    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    hidden = project.write(f"{name}.py", "x = 1\n")
    project.write("prog.py", TASK.format(source, "hid", "f"))
    done = shell("deploy", "prog.py", "--dry-run")
    monkeypatch.delitem(sys.modules, name, raising=False)
    assert done.code != 0
    assert f"{hidden} hides {owner}: rename it" in done.err
    assert "pip install" not in done.err

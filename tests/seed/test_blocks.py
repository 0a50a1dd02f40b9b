"""Every block of the page compiles and imports as it stands: alone, with its prelude, and all of them as one module."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.platform_fixture import ROOT, Platform
from tests.seed.page import INCLUDED, Page
from tests.seed.platform_calls import app_client, deploy, run_task
from tests.seed.preludes import BEFORE, program

ALONE = {
    59: ("app", "env", "task_env", "process_data", "run_task_webhook"),
    282: ("app", "github_webhook"),
    332: ("app1", "env1", "app2", "env2", "greeting_proxy"),
}
"""The blocks that are whole modules, and what they define."""

CONTINUED = {
    39: ("call_app_task",),
    118: ("lifespan", "app", "execute_task"),
    178: ("TaskInput", "run_task"),
    213: ("run_task_and_wait",),
    245: ("env",),
    256: ("WEBHOOK_API_KEY",),
    385: ("env2", "greeting_proxy"),
    420: ("echo",),
    434: ("broadcast",),
    448: ("stream_data",),
    464: ("ChatRoom", "rooms", "chat"),
    505: ("task_runner",),
}
"""The blocks that go on from an earlier one, and what they define."""

CLIENT = 548
"""The block that runs a client as it is imported, and so needs somebody to talk to: see test_websocket.py."""

OTHER = {155: "bash", 164: "json"}


@pytest.fixture(scope="module")
def imported(page: Page, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of importing each program: its names and routes, or the traceback."""
    folder = tmp_path_factory.mktemp("blocks")
    texts = {f"alone_{line}": page.block(line) for line in ALONE}
    texts |= {f"block_{line}": program(page, line, after="") for line in CONTINUED}
    texts |= {"whole_page": page.as_module()}
    texts |= {f"included_{path.stem}": path.read_text() for path in INCLUDED.glob("*.py")}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "tests.seed.importer", *(str(folder / f"{name}.py") for name in texts)]
    paths = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=folder, env=paths)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.snippet("The page", "every block is known")
def test_no_block_of_the_page_is_left_out(page: Page) -> None:
    python = {block.line for block in page.blocks if block.language == "python"}
    assert python == {*ALONE, *CONTINUED, CLIENT}
    assert {block.line: block.language for block in page.blocks if block.line not in python} == OTHER


@pytest.mark.snippet("The page", "every included file is there")
def test_the_included_files_have_a_program_of_ours_in_their_place(page: Page) -> None:
    assert sorted(part.name for part in page.includes) == sorted(path.name for path in INCLUDED.glob("*.py"))


@pytest.mark.parametrize("line", sorted([*ALONE, *CONTINUED, CLIENT]))
@pytest.mark.snippet("The page", "every block compiles")
def test_a_python_block_compiles_by_itself(page: Page, line: int) -> None:
    compile(page.block(line), f"line {line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.snippet("The page", "every block compiles")
def test_the_bash_and_json_blocks_can_be_read(page: Page) -> None:
    assert shlex.split(page.block(155))[:3] == ["curl", "-X", "POST"]
    assert json.loads(page.block(164)).keys() == {"url", "id", "status"}


@pytest.mark.parametrize("line", sorted(ALONE))
@pytest.mark.snippet("The page", "self-contained blocks import")
def test_a_self_contained_block_imports_alone(imported: dict[str, Any], line: int) -> None:
    found = imported[f"alone_{line}"]
    assert "error" not in found, found["error"]
    assert set(ALONE[line]) <= set(found["names"])


@pytest.mark.parametrize("line", sorted(CONTINUED))
@pytest.mark.snippet("The page", "continuations import with their prelude")
def test_a_continuation_imports_with_its_prelude_unmodified(page: Page, imported: dict[str, Any], line: int) -> None:
    assert page.block(line) in program(page, line, after="")
    found = imported[f"block_{line}"]
    assert "error" not in found, found["error"]
    assert set(CONTINUED[line]) <= set(found["names"])


@pytest.mark.parametrize("line", sorted(CONTINUED))
@pytest.mark.snippet("The page", "continuations import with their prelude")
def test_a_prelude_does_not_define_what_its_block_defines(line: int) -> None:
    defined = {node.name for node in ast.parse(BEFORE[line]).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert not defined & (set(CONTINUED[line]) - {"lifespan"})


@pytest.mark.parametrize("path", sorted(INCLUDED.glob("*.py")), ids=lambda path: path.stem)
@pytest.mark.snippet("The page", "every included file is there")
def test_an_included_program_imports(imported: dict[str, Any], path: Path) -> None:
    found = imported[f"included_{path.stem}"]
    assert "error" not in found, found["error"]


@pytest.mark.snippet("The page", "as one module")
def test_the_whole_page_imports_as_one_module(imported: dict[str, Any]) -> None:
    found = imported["whole_page"]
    assert "error" not in found, found["error"]
    names = {name for names in (*ALONE.values(), *CONTINUED.values()) for name in names}
    assert names | {"client", "add_one_task", "verify_token", "manager"} <= set(found["names"])
    assert {"/ws", "/echo", "/broadcast", "/stream", "/chat/{room_name}", "/task-runner"} <= set(found["routes"]["app"])
    assert "/greeting/{name}" in found["routes"]["app2"]


@pytest.mark.snippet("The page", "as one module, deployed")
def test_the_whole_page_as_one_module_is_deployed_environment_by_environment(platform: Platform, page: Page) -> None:
    """It names some environments twice; the last one that a variable holds is the one that counts."""
    text = page.as_module()
    deploy(platform, "whole_page", text, "task_env", "--version", "page")
    deploy(platform, "whole_page", text, "app_env")
    deploy(platform, "whole_page", text, "env1")
    deploy(platform, "whole_page", text, "env2")
    assert run_task(platform, "process_data", "page", data={})["outputs"] == [{"result": "processed"}]
    with app_client(platform, "add-one-app") as http:
        assert http.get("/", params={"x": 41}).json() == {"result": 42}
    with app_client(platform, "frontend-api", platform.token) as http:  # the page's last one does not say requires_auth
        assert http.get("/greeting/Ann").json() == "Hello, Ann!"

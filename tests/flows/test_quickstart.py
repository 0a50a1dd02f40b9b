"""The commands of the README and of the quickstart, taken from the pages and typed one after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.platform_fixture import ROOT, Platform

PAGES = (ROOT / "README.md", ROOT / "docs" / "quickstart.md")
BLOCK = re.compile(r"<!-- quickstart -->\n```bash\n(.*?)```", re.S)
PYTHON = re.compile(r"```python\n(.*?)```", re.S)

SHIMS = {
    # `scripts/test` has installed the project; the page's own `pip install .` would only repeat that.
    "pip": '#!/bin/sh\n[ "$1 $2" = "install ." ] || { echo "pip $*: not what the page may say" >&2; exit 2; }\n',
    "flyte": '#!/bin/sh\nexec "{python}" -m flyte.cli "$@"\n',
}


def commands(page: Path) -> str:
    return "\n".join(BLOCK.findall(page.read_text()))


def prepare(page: Path, place: Platform) -> Path:
    """A folder as the reader has it: the examples, and `hello.py` as it stands on the page."""
    hello = next(block for block in PYTHON.findall(page.read_text()) if "TaskEnvironment" in block)
    place.write("hello.py", hello)
    (place.work / "examples").symlink_to(ROOT / "examples")
    shims = place.work.parent / "bin"
    shims.mkdir()
    for name, text in SHIMS.items():
        (shims / name).write_text(text.format(python=sys.executable) if name == "flyte" else text)
        (shims / name).chmod(0o755)
    return shims


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_commands_work_as_they_stand(page: Path, empty_place: Platform) -> None:
    shims = prepare(page, empty_place)
    env = {**empty_place.env, "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}", "TARMAC_PORT": "0"}
    done = subprocess.run(
        ["bash", "-exuo", "pipefail", "-c", commands(page)],
        capture_output=True,
        text=True,
        timeout=280,
        env=env,
        cwd=empty_place.work,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{empty_place.log_tails()}"
    assert '"Hello, World!"' in done.stdout
    assert '["Hello, Ann!", "Hello, Bob!"]' in done.stdout
    empty_place.wait_until_gone()


def test_the_quickstart_adds_one() -> None:
    text = commands(ROOT / "docs" / "quickstart.md")
    assert "add_one_task --x 41" in text
    assert text.rstrip().endswith("flyte down")

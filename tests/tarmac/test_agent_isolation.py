"""The agent gives each unit a folder of its own, and removes it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from flyte import wire
from tarmac.agent import isolation
from tests.platform_fixture import ROOT
from tests.tarmac.house import eventually
from tests.tarmac.test_agent import Scene, store


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fork servers find the stub of a worker."""
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT / "tests" / "programs"))))
    monkeypatch.setenv("PYTHONPATH", path)


@asynccontextmanager
async def opened(scene: Scene) -> AsyncIterator[Scene]:
    await scene.open(isolation="tidy")
    try:
        yield scene
    finally:
        await scene.close()


def bundle_pool(scene: Scene) -> wire.PoolSpec:
    digest = store(scene.home, {"conf/shipped.txt": "shipped"})
    return msgspec.structs.replace(scene.pool(bundle=digest), root=str(scene.home.code / digest))


async def test_what_the_units_of_a_killed_agent_wrote_is_removed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    left = scene.home.work / "w-left"
    (left / "code" / "closed").mkdir(parents=True)
    (left / "code" / "closed").chmod(0)
    async with opened(scene):
        assert await eventually(lambda: not left.exists())


async def test_what_a_unit_wrote_is_removed_when_it_has_ended(tmp_path: Path) -> None:
    async with opened(Scene(tmp_path)) as scene:
        scene.start_worker("w", "code:import os; os.mkdir('closed', 0); open('new', 'w'); 1 / 0", bundle_pool(scene))
        assert "ZeroDivisionError" in (await scene.control.exited("w")).tail
        assert await eventually(lambda: not (scene.home.work / "w").exists())
    assert list(scene.home.work.iterdir()) == []


async def test_where_namespaces_cannot_be_had_the_code_is_read_only_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "PROBE", "tests.programs.no_such_program")
    async with opened(Scene(tmp_path)) as scene:
        pool = bundle_pool(scene)
        scene.start_worker("w", "code:open('new', 'w'); import time; time.sleep(600)", pool)
        await scene.control.started("w")
        told = json.loads(scene.home.isolation.read_text())
        assert (told["profile"], "no_such_program" in told["reason"]) == ("links", True)
        shipped = Path(pool.root) / "conf"
        assert [stat.S_IMODE(path.stat().st_mode) & 0o222 for path in (shipped, shipped / "shipped.txt")] == [0, 0]
        assert await eventually(lambda: (scene.home.work / "w" / "code" / "new").exists())

"""The agent with real processes, obeying a control plane that the test plays."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import uvloop

from flyte import wire
from flyte.errors import CodeBundleError
from tarmac import process
from tarmac.agent import Agent, bundle, probe, shortage
from tarmac.agent import last_lines as tails
from tarmac.agent import unit as units
from tarmac.agent.link import ControlLink
from tarmac.agent.memory import Memory, find_groups
from tarmac.home import Home
from tests.platform_fixture import ROOT
from tests.tarmac.link_server import LinkServer


class Scene:
    """An agent, and the control plane that it obeys."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.prepare()
        self.root = folder / "code"
        self.root.mkdir()
        self.control = LinkServer(self.home.link_socket)
        self.agent: Agent
        self._task: asyncio.Task[None]

    async def open(self, lease: float = 60, isolation: str = "open") -> None:
        await self.control.open()
        self.agent = Agent(self.home, "stub_worker", grace=2, lease=lease, isolation=isolation)
        self._task = asyncio.create_task(self.agent.run())
        await self.control.hello()

    async def close(self) -> None:
        self.agent.stop()
        await self._task
        await self.control.close()
        assert process.orphaned_units(self.home.path) == set()

    def pool(self, *modules: str, **more: Any) -> wire.PoolSpec:
        spec = wire.PoolSpec(
            id="", name="env@v1", python=sys.executable, root=str(self.root), modules=list(modules), **more
        )
        return msgspec.structs.replace(spec, id=hashlib.sha256(msgspec.json.encode(spec)).hexdigest()[:20])

    def start_worker(self, unit: str, stub: str = "wait", pool: wire.PoolSpec | None = None, **env: str) -> None:
        order = wire.StartUnit(unit=unit, kind="worker", pool=pool or self.pool(), env={"STUB": stub, **env})
        self.control.send(order)

    def start_replica(self, unit: str, kind: str, entry: str = "", modules: tuple[str, ...] = (), **more: Any) -> None:
        spec = wire.ReplicaSpec(
            app="app",
            project="p",
            domain="d",
            version="v1",
            kind=kind,
            entry=entry,
            log=str(self.home.logs / "apps" / f"{unit}.log"),
            **more,
        )
        self.control.send(wire.StartUnit(unit=unit, kind="replica", pool=self.pool(*modules), replica=spec))

    async def log(self, holds: Callable[[str], bool], pool: wire.PoolSpec | None = None) -> str:
        """The log of a pool, once it holds what the test waits for."""
        path = self.home.logs / "pools" / f"{(pool or self.pool()).id}.log"
        await fact(lambda: path.exists() and holds(path.read_text()), f"{path} holds what is expected")
        return path.read_text()


async def fact(holds: Callable[[], object], promise: str, limit: float = 30) -> None:
    deadline = asyncio.get_running_loop().time() + limit
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, promise
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    return any(entry.pid == pid for entry in process.entries())


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fork servers find the stub of a worker."""
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT / "tests" / "programs"))))
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    opened = Scene(tmp_path)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


# ------------------------------------------------------------------------------------------------------------- workers


async def test_what_workers_of_an_earlier_agent_wrote_is_kept_and_their_empty_files_are_not(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    empty, written = (scene.home.worker_log(unit) for unit in ("w-empty", "w-written"))
    empty.touch()
    written.write_text("last words\n")
    await scene.open()
    try:
        assert not empty.exists()
        assert written.read_text() == "last words\n"
    finally:
        await scene.close()


async def test_a_worker_is_started_and_its_end_is_reported_in_words_with_its_last_lines(scene: Scene) -> None:
    scene.start_worker("w-1", "exit:3")
    assert await scene.control.started("w-1") > 0
    exited = await scene.control.exited("w-1")
    assert (exited.code, exited.reason) == (3, "exit code 3")
    assert "worker w-1 reuse=False" in exited.tail


async def test_a_worker_that_crashes_is_reported_with_the_signal(scene: Scene) -> None:
    scene.start_worker("w", f"kill:{signal.SIGSEGV.value}")
    exited = await scene.control.exited("w")
    assert (exited.signal, exited.reason, exited.oom) == (11, "killed by SIGSEGV", False)
    assert "last words" in exited.tail


async def test_a_pool_is_imported_once_for_all_its_units(scene: Scene) -> None:
    (scene.root / "mine.py").write_text("print('imported')\n")
    pool = scene.pool("mine")
    for unit in ("a", "b", "c"):
        scene.start_worker(unit, "exit:0", pool)
    for unit in ("a", "b", "c"):
        await scene.control.exited(unit)
    assert (await scene.log(bool, pool)).count("imported") == 1
    assert [frame for frame in scene.control.frames if isinstance(frame, wire.PoolReady)] == [
        wire.PoolReady(pool=pool.id, forks=True, variables=[])
    ]


async def test_a_module_that_cannot_be_imported_fails_the_pool_and_every_unit_that_waits(scene: Scene) -> None:
    (scene.root / "mine.py").write_text("print('trying')\nimport nowhere\n")
    pool = scene.pool("mine")
    scene.start_worker("a", pool=pool)
    scene.start_worker("b", pool=pool)
    failed = await scene.control.wait(wire.PoolFailed)
    assert "No module named 'nowhere'" in failed.error.message
    assert "trying" in failed.tail
    for unit in ("a", "b"):
        exited = await scene.control.exited(unit)
        assert exited.reason.startswith("its code cannot be loaded: cannot import module 'mine'")
        assert (exited.code, exited.signal) == (None, None)


async def test_a_pool_that_failed_is_tried_again_when_it_is_asked_for_again(scene: Scene) -> None:
    (scene.root / "mine.py").write_text("import later\n")
    pool = scene.pool("mine")
    scene.start_worker("a", pool=pool)
    await scene.control.exited("a")
    (scene.root / "later.py").touch()
    scene.start_worker("b", pool=pool)
    await scene.control.started("b")


async def test_an_interpreter_that_is_not_there_fails_the_pool(scene: Scene) -> None:
    pool = msgspec.structs.replace(scene.pool(), python="/no/such/python")
    scene.start_worker("w", pool=pool)
    assert "/no/such/python cannot be started" in (await scene.control.wait(wire.PoolFailed)).error.message
    await scene.control.exited("w")


async def test_units_see_their_pools_environment_and_nothing_of_the_agents_own(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARMAC_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("FLYTE_API_KEY", "secret")
    (scene.root / "mine.py").write_text("import json, os\nprint(json.dumps(dict(os.environ)))\n")
    pool = scene.pool("mine", env={"MINE": "1"})
    scene.start_worker("w", pool=pool)
    env = json.loads((await scene.log(lambda text: "{" in text, pool)).splitlines()[0])
    assert env["MINE"] == "1"
    assert env["TARMAC_PLATFORM"] == str(scene.home.path)
    assert "secret" not in str(env)
    worker = process.environment(await scene.control.started("w"))
    assert worker["TARMAC_AGENT"] == str(os.getpid())


# ------------------------------------------------------------------------------------------------------------- bundles


def store(home: Home, members: dict[str, str | tarfile.TarInfo]) -> str:
    """Put a bundle into the blob store; its digest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, str):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content.encode()))
            else:
                tar.addfile(content)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    (home.blobs / digest).write_bytes(buffer.getvalue())
    return digest


async def test_a_bundle_is_unpacked_before_its_code_is_imported(scene: Scene) -> None:
    digest = store(scene.home, {"pack/__init__.py": "", "pack/mine.py": "print('from the bundle')\n"})
    pool = scene.pool("pack.mine", bundle=digest)
    pool = msgspec.structs.replace(pool, root=str(scene.home.code / digest))
    scene.start_worker("w", pool=pool)
    await scene.control.started("w")
    assert "from the bundle" in await scene.log(bool, pool)


async def test_a_bundle_that_is_not_there_fails_the_pool(scene: Scene) -> None:
    scene.start_worker("w", pool=scene.pool("mine", bundle="0" * 64))
    failed = await scene.control.wait(wire.PoolFailed)
    assert failed.error.code == "CodeBundleError"
    assert "deploy again" in failed.error.message


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo("way-out")
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "members",
    [
        {"../evil.py": "x"},
        {"a/../../evil.py": "x"},
        {"/evil.py": "x"},
        {"way-out": link(tarfile.SYMTYPE, "/etc")},
        {"way-out": link(tarfile.LNKTYPE, "../../etc/passwd")},
        {"way-out": link(tarfile.CHRTYPE, "")},
    ],
)
def test_a_bundle_that_would_write_outside_of_its_folder_is_refused(
    tmp_path: Path, members: dict[str, str | tarfile.TarInfo]
) -> None:
    home = Home(tmp_path / "h")
    home.prepare()
    digest = store(home, {"good.py": "x", **members})
    with pytest.raises(CodeBundleError):
        bundle.unpack(home.blobs / digest, digest, home.code / digest)
    assert list(home.code.iterdir()) == []
    assert not list(tmp_path.rglob("evil.py"))


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"not what it says")
    with pytest.raises(CodeBundleError, match="is damaged"):
        bundle.unpack(tmp_path / "blob", "0" * 64, tmp_path / "code")


# ------------------------------------------------------------------------------------------------------------ stopping


async def test_stopping_a_unit_takes_everything_that_it_started(scene: Scene) -> None:
    scene.start_worker("w", "children")
    text = await scene.log(lambda text: "children" in text)
    here, away = map(int, text.rpartition("children")[2].split()[:2])
    scene.control.send(wire.StopUnit(unit="w", grace=2, reason="aborted by somebody"))
    exited = await scene.control.exited("w")
    assert (exited.signal, exited.reason) == (signal.SIGTERM, "stopped: aborted by somebody")
    await fact(lambda: not alive(here) and not alive(away), "its children are gone, whatever session they are in")


async def test_a_unit_that_ignores_sigterm_is_killed_after_the_grace(scene: Scene) -> None:
    scene.start_worker("w", "deaf")
    await scene.log(lambda text: "deaf now" in text)
    began = asyncio.get_running_loop().time()
    scene.control.send(wire.StopUnit(unit="w", grace=0.3))
    exited = await scene.control.exited("w")
    assert (exited.signal, exited.reason, exited.oom) == (signal.SIGKILL, "stopped", False)
    assert asyncio.get_running_loop().time() - began >= 0.3


async def test_without_grace_a_unit_is_killed_at_once(scene: Scene) -> None:
    scene.start_worker("w")
    await scene.control.started("w")
    scene.control.send(wire.StopUnit(unit="w", grace=0))
    assert (await scene.control.exited("w")).signal == signal.SIGKILL


async def test_a_unit_can_be_stopped_before_its_code_is_imported(scene: Scene) -> None:
    (scene.root / "mine.py").write_text("print('begun')\nimport time; time.sleep(600)\n")
    pool = scene.pool("mine")
    scene.start_worker("w", pool=pool)
    await scene.log(lambda text: "begun" in text, pool)
    scene.control.send(wire.StopUnit(unit="w", reason="changed my mind"))
    assert (await scene.control.exited("w")).reason == "stopped: changed my mind"


async def test_stopping_what_does_not_exist_is_answered(scene: Scene) -> None:
    scene.control.send(wire.StopUnit(unit="ghost"))
    assert (await scene.control.exited("ghost")).reason == "there is no such process"


async def test_fork_servers_that_nobody_names_end_when_their_last_unit_has(scene: Scene) -> None:
    kept, dropped = scene.pool(env={"A": "1"}), scene.pool(env={"A": "2"})
    scene.start_worker("a", pool=kept)
    scene.start_worker("b", pool=dropped)
    pids = [await scene.control.started(unit) for unit in ("a", "b")]
    parents = [psutil.Process(pid).ppid() for pid in pids]
    scene.control.send(wire.KeepPools(pools=[kept.id]))
    scene.control.send(wire.StopUnit(unit="a"))
    await scene.control.exited("a")
    assert alive(parents[1]), "it still has a unit"
    scene.control.send(wire.StopUnit(unit="b"))
    await scene.control.exited("b")
    await fact(lambda: not alive(parents[1]), "its fork server has ended")
    assert alive(parents[0]), "this one is named"


async def test_when_a_fork_server_is_killed_its_units_are_reported_and_the_next_unit_gets_a_new_one(
    scene: Scene,
) -> None:
    scene.start_worker("a", "deaf")
    pid = await scene.control.started("a")
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    assert "was lost" in (await scene.control.exited("a")).reason
    await fact(lambda: not alive(pid), "the unit died with it")
    scene.start_worker("b")
    await scene.control.started("b")


# -------------------------------------------------------------------------------------------- code that has changed


async def checked(scene: Scene, pool: wire.PoolSpec, age: float = 0) -> wire.PoolChecked:
    scene.control.frames.clear()
    scene.control.send(wire.CheckPool(pool=pool.id, age=age))
    return await scene.control.wait(wire.PoolChecked)


async def test_a_changed_file_is_reported_with_the_units_that_have_the_old_code(scene: Scene) -> None:
    """They go on; the next unit has what is new, and what they were forked from ends with the last of them."""
    (scene.root / "mine.py").write_text("print('one', end=';')\n")
    pool = scene.pool("mine")
    assert await checked(scene, pool) == wire.PoolChecked(pool=pool.id)
    scene.start_worker("a", pool=pool)
    old = psutil.Process(await scene.control.started("a")).ppid()
    assert await checked(scene, pool) == wire.PoolChecked(pool=pool.id)
    (scene.root / "mine.py").write_text("print('another', end=';')\n")
    why = f"{scene.root / 'mine.py'} has changed"
    assert await checked(scene, pool) == wire.PoolChecked(pool=pool.id, outdated=why, units=["a"])
    scene.start_worker("b", pool=pool)
    await scene.control.started("b")
    await scene.log(lambda text: "another" in text, pool)
    assert await checked(scene, pool) == wire.PoolChecked(pool=pool.id, units=["a"])
    assert alive(old)
    scene.control.send(wire.StopUnit(unit="a"))
    await scene.control.exited("a")
    await fact(lambda: not alive(old), "nobody needs it any more")
    assert await checked(scene, pool) == wire.PoolChecked(pool=pool.id)


async def test_units_that_import_for_themselves_are_reported_as_well(scene: Scene) -> None:
    (scene.root / "mine.py").write_text("print('one', end=';')\n")
    pool = scene.pool("mine", fork=False)
    scene.start_worker("a", pool=pool)
    await scene.control.started("a")
    await scene.log(lambda text: "one" in text, pool)
    (scene.root / "mine.py").write_text("print('another', end=';')\n")
    deadline = asyncio.get_running_loop().time() + 10
    while not (found := await checked(scene, pool)).outdated:  # it has not told yet what it has read
        assert asyncio.get_running_loop().time() < deadline
    assert found.units == ["a"]


async def test_an_import_that_is_too_old_is_as_one_whose_files_have_changed(scene: Scene) -> None:
    (scene.root / "mine.py").touch()
    pool = scene.pool("mine")
    scene.start_worker("a", pool=pool)
    await scene.control.started("a")
    assert (await checked(scene, pool, age=3600)).units == []
    found = await checked(scene, pool, age=1e-6)
    assert (found.outdated[:16], found.units) == ("it was imported ", ["a"])


async def test_a_fork_server_that_dies_while_it_is_asked_has_nothing_old(scene: Scene) -> None:
    (scene.root / "mine.py").touch()
    pool = scene.pool("mine")
    scene.start_worker("a", pool=pool)
    fork_server = psutil.Process(await scene.control.started("a")).ppid()
    os.kill(fork_server, signal.SIGSTOP)
    scene.control.frames.clear()
    scene.control.send(wire.CheckPool(pool=pool.id))
    scene.start_worker("b")
    await scene.control.started("b")  # orders are obeyed one after the other
    os.kill(fork_server, signal.SIGKILL)
    assert await scene.control.wait(wire.PoolChecked) == wire.PoolChecked(pool=pool.id)


# ------------------------------------------------------------------------------------ what fork servers are forked from


def preloads() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "flyte.runtime.preload" in child.cmdline():
                found.append(child)
    return found


async def preload_of(scene: Scene) -> psutil.Process:
    """The process that fork servers are forked from."""
    await fact(preloads, "there is a preload process")
    (found,) = preloads()
    return found


async def preload_of_apps(scene: Scene) -> None:
    """Wait until there is one that has imported the server stack."""
    preload = scene.agent._pools._preloads._own.apps
    await fact(
        lambda: preload.suits(scene.pool()) and preload._warmth == "warm",
        "there is a preload process with the server stack",
        30,
    )


async def test_pools_forked_from_one_preload_share_no_environment(scene: Scene) -> None:
    (scene.root / "mine.py").write_text("import os\nprint('A' in os.environ, 'B' in os.environ, end=';')\n")
    for name in ("A", "B"):
        pool = scene.pool("mine", env={name: "1"})
        scene.start_worker(name, pool=pool)
        fork_server = psutil.Process(await scene.control.started(name)).ppid()
        assert psutil.Process(fork_server).ppid() == (await preload_of(scene)).pid
        assert (await scene.log(bool, pool)).startswith("True False;" if name == "A" else "False True;")


async def test_a_pool_with_variables_that_python_reads_at_its_start_gets_an_interpreter_of_its_own(
    scene: Scene,
) -> None:
    (scene.root / "mine.py").write_text("import sys\nprint(sys.flags.optimize)\n")
    pool = scene.pool("mine", env={"PYTHONOPTIMIZE": "2"})
    scene.start_worker("w", pool=pool)
    await scene.control.started("w")
    assert (await scene.log(bool, pool)).startswith("2")


async def test_when_the_preload_is_killed_its_units_are_reported_and_the_next_fork_server_grows_from_another(
    scene: Scene,
) -> None:
    pool = scene.pool()
    scene.start_worker("a", "deaf", pool)
    pid = await scene.control.started("a")
    killed = await preload_of(scene)
    killed.kill()
    assert "was lost" in (await scene.control.exited("a")).reason
    await fact(lambda: not alive(pid), "the unit died with it")
    await fact(lambda: preloads() and killed not in preloads(), "there is another preload process", limit=5)
    scene.start_worker("b", pool=pool)
    fork_server = psutil.Process(await scene.control.started("b")).parent()
    assert fork_server
    assert fork_server.parent() == await preload_of(scene)


async def test_the_preload_of_apps_that_is_killed_is_replaced_and_imports_the_server_stack_again(scene: Scene) -> None:
    (scene.root / "main.py").write_text(APP)
    scene.start_replica("r", "asgi", "main:env", ("main",))
    await scene.control.ready("r")
    await preload_of_apps(scene)
    before = preloads()
    for killed in before:
        killed.kill()
    await fact(lambda: len(preloads()) == 2 and not set(preloads()) & set(before), "there are two others")
    await preload_of_apps(scene)


async def test_a_preload_that_hangs_is_replaced_and_lives_as_long_as_what_was_forked_from_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (scene.pool(env={"POOL": name}) for name in ("first", "second", "third"))
    scene.start_worker("a", pool=first)
    running = await scene.control.started("a")
    hangs = await preload_of(scene)
    hangs.suspend()
    monkeypatch.setattr("tarmac.agent.fork_server.HELLO_LIMIT", 0.5)
    scene.start_worker("b", pool=second)
    await scene.control.started("b")
    monkeypatch.setattr("tarmac.agent.fork_server.HELLO_LIMIT", 30)
    await fact(lambda: len(preloads()) == 2, "there is another preload process")
    (other,) = (preload for preload in preloads() if preload != hangs)
    scene.start_worker("c", pool=third)
    fork_server = psutil.Process(await scene.control.started("c")).parent()
    assert fork_server
    assert fork_server.parent() == other
    assert alive(running)
    assert alive(hangs.pid)
    scene.control.send(wire.StopUnit(unit="a"))
    await scene.control.exited("a")
    scene.control.send(wire.KeepPools(pools=[second.id, third.id]))
    await fact(lambda: not alive(hangs.pid), "the preload process that hung has ended with its last fork server")
    assert preloads() == [other]


async def test_a_preload_that_hangs_is_killed_at_once_where_nothing_was_forked_from_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = await preload_of(scene)
    hangs.suspend()
    monkeypatch.setattr("tarmac.agent.fork_server.HELLO_LIMIT", 0.5)
    scene.start_worker("w", "exit:3")
    assert (await scene.control.exited("w")).code == 3
    await fact(lambda: not alive(hangs.pid), "it is gone")
    await fact(lambda: len(preloads()) == 1, "there is another")


async def test_an_agent_ends_a_preload_that_hangs_with_all_that_was_forked_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path)
    await scene.open()
    scene.start_worker("a")
    await scene.control.started("a")
    hangs = await preload_of(scene)
    hangs.suspend()
    monkeypatch.setattr("tarmac.agent.fork_server.HELLO_LIMIT", 0.5)
    scene.start_worker("b", pool=scene.pool(env={"POOL": "second"}))
    await scene.control.started("b")
    await scene.close()
    assert not alive(hangs.pid)


async def test_a_preload_that_dies_at_an_order_is_done_without(scene: Scene) -> None:
    preload = await preload_of(scene)
    preload.suspend()
    scene.start_worker("w", "exit:0")
    log = scene.home.logs / "pools" / f"{scene.pool().id}.log"
    await fact(log.exists, "the order is on its way")
    preload.kill()
    assert (await scene.control.exited("w")).code == 0


# --------------------------------------------------------------------------------------------------- what stands still


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Scene]:
    """A scene whose agent has a short lease."""
    scene = Scene(tmp_path)
    await scene.open(lease=3)
    try:
        yield scene
    finally:
        await scene.close()


async def test_a_fork_server_that_is_stopped_while_it_imports_is_replaced(impatient: Scene) -> None:
    scene = impatient
    (scene.root / "mine.py").write_text(SLOW_ONCE)
    scene.start_worker("w", pool=scene.pool("mine"))
    await fact((scene.root / "begun").exists, "the import has begun")
    (fork_server,) = (await preload_of(scene)).children()
    fork_server.suspend()
    await scene.control.started("w")
    assert not alive(fork_server.pid)


async def test_a_replica_that_is_stopped_is_ended_and_that_is_said_and_others_are_not(impatient: Scene) -> None:
    scene = impatient
    (scene.root / "main.py").write_text(APP)
    for unit in ("stopped", "other"):
        scene.start_replica(unit, "asgi", "main:env", ("main",))
        await scene.control.ready(unit)
    os.kill(await scene.control.started("stopped"), signal.SIGSTOP)
    exited = await scene.control.exited("stopped")
    assert (exited.signal, exited.reason, exited.oom) == (signal.SIGKILL, "it was stopped for 3 s", False)
    assert alive(await scene.control.started("other"))


async def test_a_unit_that_is_stopped_while_it_imports_for_itself_is_ended(impatient: Scene) -> None:
    scene = impatient
    (scene.root / "mine.py").write_text("print('begun')\nimport time; time.sleep(600)\n")
    pool = scene.pool("mine", fork=False)
    scene.start_worker("w", pool=pool)
    pid = await scene.control.started("w")
    await scene.log(lambda text: "begun" in text, pool)
    os.kill(pid, signal.SIGSTOP)
    assert (await scene.control.exited("w")).reason == "it was stopped for 3 s"


# ------------------------------------------------------------------------------- what is no fault of the user's code

SLOW_ONCE = """
import pathlib, time
begun = pathlib.Path("begun")
if not begun.exists():
    begun.touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["fork_server", "preload"])
async def test_an_import_that_is_killed_is_done_once_more_and_fails_nothing(scene: Scene, victim: str) -> None:
    (scene.root / "mine.py").write_text(SLOW_ONCE)
    pool = scene.pool("mine")
    scene.start_worker("w", pool=pool)
    await fact((scene.root / "begun").exists, "the import has begun")
    preload = await preload_of(scene)
    (fork_server,) = preload.children()
    (preload if victim == "preload" else fork_server).kill()
    await scene.control.started("w")
    assert not alive(fork_server.pid)
    assert not [frame for frame in scene.control.frames if isinstance(frame, wire.PoolFailed)]


async def test_an_import_that_ends_its_process_every_time_is_told_as_a_loss(scene: Scene) -> None:
    (scene.root / "mine.py").write_text("import os\nprint('trying')\nos.kill(os.getpid(), 9)\n")
    scene.start_worker("w", pool=scene.pool("mine"))
    failed = await scene.control.wait(wire.PoolFailed)
    assert (failed.error.code, failed.error.kind) == ("WorkerLostError", "system")
    assert failed.error.message == "the process that imports mine ended before it was done"
    assert failed.tail.count("trying") == 2
    await scene.control.exited("w")


async def test_an_agent_that_ends_tries_no_import_once_more(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    await scene.open()
    (scene.root / "mine.py").write_text("print('trying')\nimport time; time.sleep(600)\n")
    pool = scene.pool("mine")
    scene.start_worker("w", pool=pool)
    await scene.log(lambda text: "trying" in text, pool)
    await scene.close()
    assert (await scene.log(bool, pool)).count("trying") == 1


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine is short of, it is short of for two short moments."""
    monkeypatch.setattr(shortage, "PAUSES", (0.01, 0.01))


def failing(times: int, error: Exception, then: Callable[..., Any]) -> Callable[..., Any]:
    """`then`, but the first so many calls raise."""
    left = [error] * times

    def call(*args: Any, **options: Any) -> Any:
        if left:
            raise left.pop()
        return then(*args, **options)

    return call


NO_ROOM = OSError(errno.ENOSPC, "No space left on device")
NO_PROCESS = OSError(errno.EAGAIN, "Resource temporarily unavailable")
NO_THREAD = RuntimeError("can't start new thread")


@pytest.mark.parametrize("error", [NO_ROOM, NO_THREAD])
async def test_a_bundle_that_finds_no_room_is_unpacked_a_moment_later(
    scene: Scene, short: None, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(bundle, "unpack", failing(2, error, bundle.unpack))
    digest = store(scene.home, {"mine.py": ""})
    pool = msgspec.structs.replace(scene.pool("mine", bundle=digest), root=str(scene.home.code / digest))
    scene.start_worker("w", pool=pool)
    await scene.control.started("w")


@pytest.mark.parametrize("error", [NO_ROOM, NO_THREAD])
async def test_where_there_is_no_room_at_all_that_is_not_told_as_the_users_failure(
    scene: Scene, short: None, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(bundle, "unpack", failing(3, error, bundle.unpack))
    scene.start_worker("w", pool=scene.pool("mine", bundle=store(scene.home, {"mine.py": ""})))
    failed = (await scene.control.wait(wire.PoolFailed)).error
    assert (failed.code, failed.kind, failed.message) == ("WorkerLostError", "system", str(error))
    await scene.control.exited("w")


def test_no_room_while_a_bundle_is_unpacked_is_no_fault_of_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "h")
    home.prepare()
    digest = store(home, {"mine.py": "x"})
    monkeypatch.setattr("shutil.copyfileobj", failing(1, NO_ROOM, lambda *args: None))
    with pytest.raises(OSError, match="No space left"):
        bundle.unpack(home.blobs / digest, digest, home.code / digest)
    assert list(home.code.iterdir()) == []


@pytest.mark.parametrize(("times", "kind"), [(2, ""), (3, "system")])
async def test_an_interpreter_that_cannot_be_started_for_a_moment_is_started_later(
    scene: Scene, short: None, monkeypatch: pytest.MonkeyPatch, times: int, kind: str
) -> None:
    await preload_of(scene)  # it has been started before
    monkeypatch.setattr(subprocess, "Popen", failing(times, NO_PROCESS, subprocess.Popen))
    scene.start_worker("w", pool=scene.pool(env={"PYTHONOPTIMIZE": "2"}))
    if kind:
        failed = (await scene.control.wait(wire.PoolFailed)).error
        assert (failed.code, failed.kind) == ("WorkerLostError", kind)
        await scene.control.exited("w")
    else:
        await scene.control.started("w")


REFUSES_ONCE = """
import errno, os
fork = os.fork

def refuse():
    os.fork = fork
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

os.fork = refuse
"""


async def test_a_worker_that_cannot_be_forked_for_a_moment_is_forked_later(scene: Scene, short: None) -> None:
    (scene.root / "mine.py").write_text(REFUSES_ONCE)
    scene.start_worker("w", "exit:3", scene.pool("mine"))
    assert (await scene.control.exited("w")).code == 3


async def test_where_no_process_can_be_made_at_all_a_unit_ends_and_the_others_go_on(scene: Scene, short: None) -> None:
    (scene.root / "mine.py").write_text(REFUSES_ONCE.replace("os.fork = fork", "fork"))
    scene.start_worker("other")
    other = await scene.control.started("other")
    scene.start_worker("w", "exit:3", scene.pool("mine"))
    exited = await scene.control.exited("w")
    assert exited.reason == f"no process can be made: [Errno {errno.EAGAIN}] Resource temporarily unavailable"
    assert alive(other)


async def test_a_replica_for_which_there_is_no_port_for_a_moment_gets_one_later(
    scene: Scene, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene.root / "main.py").write_text(APP)
    monkeypatch.setattr("tarmac.agent.free_port", failing(2, OSError(errno.EMFILE, "files"), units.free_port))
    scene.start_replica("r", "asgi", "main:env", ("main",))
    await scene.control.ready("r")


async def test_a_unit_whose_life_the_agent_cannot_follow_ends_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.start_worker("other")
    other = await scene.control.started("other")
    monkeypatch.setattr(scene.agent._memory, "admit", failing(1, NO_THREAD, scene.agent._memory.admit))
    scene.start_worker("w")
    assert (await scene.control.exited("w")).reason == "the agent: can't start new thread"
    scene.start_worker("x")
    await scene.control.started("x")
    assert alive(other)


async def test_without_a_thread_to_look_for_it_what_a_unit_left_behind_is_ended_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarmac.agent._SHORTAGE_PAUSE", 0.01)
    monkeypatch.setattr(process, "leftovers", failing(2, NO_THREAD, process.leftovers))
    scene.start_worker("w", "children")
    text = await scene.log(lambda text: "children" in text)
    away = int(text.rpartition("children")[2].split()[1])
    scene.control.send(wire.StopUnit(unit="w", grace=2))
    await scene.control.exited("w")
    await fact(lambda: not alive(away), "what it left is gone")


async def test_without_a_thread_to_look_at_memory_it_is_looked_at_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(lambda: None)
    monkeypatch.setattr(memory, "excess", failing(1, NO_THREAD, memory.excess))
    monkeypatch.setattr(scene.agent, "_memory", memory)
    scene.start_worker("bad", "hoard:400", scene.pool(memory=100 * 2**20))
    assert (await scene.control.exited("bad")).oom


# ------------------------------------------------------------------------- what goes wrong with one pool, unit or order


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({"DEBUG=1": ""}, "'DEBUG=1' is not a valid name of an environment variable"),
        ({"": "x"}, "'' is not a valid name of an environment variable"),
        ({"A\0B": "x"}, "'A\\x00B' is not a valid name of an environment variable"),
        ({"A": "secret\0word"}, "the value of the environment variable A contains a NUL character"),
    ],
)
async def test_variables_that_no_process_can_have_fail_their_pool_in_words(
    scene: Scene, env: dict[str, str], complaint: str
) -> None:
    scene.start_worker("other")
    other = await scene.control.started("other")
    scene.start_worker("w", pool=scene.pool(env=env))
    failed = (await scene.control.wait(wire.PoolFailed)).error
    assert (failed.code, failed.kind, failed.retryable) == ("InvalidEnvironmentError", "user", False)
    assert failed.message == f"{complaint}; change the env_vars of 'env' and deploy again"
    assert complaint in (await scene.control.exited("w")).reason
    assert alive(other)


async def test_a_pool_that_cannot_be_started_for_a_reason_nobody_foresaw_fails_alone(scene: Scene) -> None:
    scene.start_worker("other")
    other = await scene.control.started("other")
    scene.start_worker("w", pool=msgspec.structs.replace(scene.pool(), id="odd", python="a\0b"))
    reason = (await scene.control.exited("w")).reason
    assert "embedded null byte" in reason
    scene.start_worker("x")
    await scene.control.started("x")
    assert alive(other)
    assert len(scene.control.hellos) == 1


async def test_what_a_damaged_archive_raises_fails_its_pool_and_leaves_no_folder(scene: Scene) -> None:
    digest = store(scene.home, {"mine.py": os.urandom(20_000).hex()})
    data = bytearray((scene.home.blobs / digest).read_bytes())
    data[10_000:10_010] = b"\xff" * 10
    digest = hashlib.sha256(data).hexdigest()
    (scene.home.blobs / digest).write_bytes(data)
    scene.start_worker("w", pool=scene.pool("mine", bundle=digest))
    failed = (await scene.control.wait(wire.PoolFailed)).error
    assert failed.code == "CodeBundleError"
    assert "cannot be unpacked: it is damaged" in failed.message
    assert list(scene.home.code.iterdir()) == []


async def test_an_order_that_cannot_be_carried_out_fails_its_unit_alone(scene: Scene) -> None:
    scene.start_worker("other")
    other = await scene.control.started("other")
    replica = wire.ReplicaSpec(app="a", project="p", domain="d", version="v", kind="command", log="/tmp/a\0b")
    scene.control.send(wire.StartUnit(unit="odd", kind="replica", pool=scene.pool(), replica=replica))
    await scene.control.exited("odd")
    assert alive(other)


async def test_a_look_that_fails_is_made_up_for_by_the_next(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tarmac.agent._SHORTAGE_PAUSE", 0.01)
    monkeypatch.setattr(process, "leftovers", failing(2, KeyError("odd"), process.leftovers))
    scene.start_worker("w", "children")
    text = await scene.log(lambda text: "children" in text)
    away = int(text.rpartition("children")[2].split()[1])
    scene.control.send(wire.StopUnit(unit="w", grace=2))
    await scene.control.exited("w")
    await fact(lambda: not alive(away), "what it left is gone")


# ------------------------------------------------------------------------------------------------------------ replicas

APP = """
import os
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment
app = FastAPI()
env = FastAPIAppEnvironment(name="app", app=app)

@app.get("/")
async def hello():
    return os.environ["FLYTE_UNIT"]

@app.get("/broken")
async def broken():
    raise RuntimeError
"""


async def test_a_replica_is_ready_when_it_answers_at_its_address(scene: Scene) -> None:
    (scene.root / "main.py").write_text(APP)
    scene.start_replica("r", "asgi", "main:env", ("main",))
    address = await scene.control.ready("r")
    assert await probe.ask(int(address.rpartition(":")[2]), "/") == probe.Outcome(True)
    scene.control.send(wire.StopUnit(unit="r", grace=5, reason="a new version took its place"))
    exited = await scene.control.exited("r")
    assert (exited.code, exited.reason) == (0, "stopped: a new version took its place")


async def test_a_path_that_does_not_exist_counts_as_an_answer_and_an_error_does_not(scene: Scene) -> None:
    (scene.root / "main.py").write_text(APP)
    scene.start_replica("r", "asgi", "main:env", ("main",), health_path="/no/such/page")
    await scene.control.ready("r")
    scene.start_replica("s", "asgi", "main:env", ("main",), health_path="/broken", start_timeout=0.5)
    exited = await scene.control.exited("s")
    assert exited.reason == "did not become ready in 0.5 s: GET /broken answers 500: RuntimeError"
    assert "RuntimeError" in exited.tail


async def test_two_commands_that_declare_the_same_port_get_addresses_of_their_own(scene: Scene) -> None:
    addresses = []
    for unit in ("r1", "r2"):
        scene.start_replica(unit, "command", argv=["python", "-m", "http.server", "8080"])
        addresses.append(await scene.control.ready(unit))
    assert len(set(addresses)) == 2


async def test_a_replica_that_listens_nowhere_is_ended_and_its_log_is_shown(scene: Scene) -> None:
    argv = ["python", "-c", "import time; print('thinking'); time.sleep(600)"]
    scene.start_replica("r", "command", argv=argv, start_timeout=1)
    exited = await scene.control.exited("r")
    assert exited.reason == "did not become ready in 1 s: nothing listens on the port that it declares, 8080"
    assert exited.tail == "thinking"


async def test_a_replica_that_listens_elsewhere_is_told_where(scene: Scene) -> None:
    program = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); time.sleep(600)"
    scene.start_replica("r", "command", argv=["python", "-c", program], start_timeout=1)
    assert "it declares port 8080 and listens on" in (await scene.control.exited("r")).reason


async def test_a_program_that_listens_on_the_declared_port_itself_is_told_to_listen_on_its_own(scene: Scene) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        declared = free.getsockname()[1]
    listen = f"import socket, time; s = socket.create_server(('127.0.0.1', {declared})); time.sleep(600)"
    argv = ["python", "-S", "-c", listen]  # without `site` it is as little bent to the app's port as no Python at all
    scene.start_replica("r", "command", argv=argv, start_timeout=1, port=declared)
    reason = (await scene.control.exited("r")).reason
    assert f"it listens on port {declared} itself" in reason
    assert reason.endswith("have it listen on $PORT")


async def test_a_replica_that_exits_before_it_is_ready_is_reported_at_once(scene: Scene) -> None:
    scene.start_replica("r", "command", argv=["python", "-c", "raise SystemExit('no model file')"])
    exited = await scene.control.exited("r")
    assert (exited.code, exited.reason, exited.tail) == (1, "exit code 1", "no model file")


async def test_startup_code_that_does_not_end_is_named(scene: Scene) -> None:
    source = APP + "\n@env.on_startup\ndef begin():\n    import time; time.sleep(600)\n"
    (scene.root / "main.py").write_text(source)
    scene.start_replica("r", "asgi", "main:env", ("main",), start_timeout=1)
    exited = await scene.control.exited("r")
    assert exited.reason == "did not become ready in 1 s: its startup code has not finished"


async def test_a_replica_whose_port_was_taken_gets_another(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    (scene.root / "main.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], units.free_port(())]
        monkeypatch.setattr("tarmac.agent.free_port", lambda others: ports.pop(0))
        good = ports[1]
        scene.start_replica("r", "asgi", "main:env", ("main",))
        assert await scene.control.ready("r") == f"127.0.0.1:{good}"


async def test_a_replica_leaves_nothing_behind_when_it_ends(scene: Scene) -> None:
    program = (
        "import subprocess, sys; sleep = [sys.executable, '-S', '-c', 'import time; time.sleep(600)'];"
        "print(subprocess.Popen(sleep, start_new_session=True).pid)"
    )
    scene.start_replica("r", "command", argv=["python", "-c", program])
    left = int((await scene.control.exited("r")).tail)
    await fact(lambda: not alive(left), "what it started is gone")


# -------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("watched", [False, True])
async def test_a_unit_that_uses_more_memory_than_its_environment_asks_for_is_killed_and_that_is_said(
    scene: Scene, watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if watched:
        monkeypatch.setattr(scene.agent, "_memory", Memory(lambda: None))
    elif find_groups(scene.home.path) is None:
        pytest.skip("no cgroups can be made here; the watchdog is tested")
    pool = scene.pool(memory=100 * 2**20)
    scene.start_worker("good", pool=pool)
    scene.start_worker("bad", "hoard:400", pool)
    exited = await scene.control.exited("bad")
    assert (exited.signal, exited.oom) == (signal.SIGKILL, True)
    assert exited.reason.startswith("the process used more memory than it may: 100 MiB are allowed, and it ")
    assert 'allow more with Resources(memory="' in exited.reason
    assert alive(await scene.control.started("good"))


# --------------------------------------------------------------------------------- the control plane comes and goes


async def test_when_the_control_plane_returns_it_hears_of_all_that_lives_and_of_what_ended(scene: Scene) -> None:
    (scene.root / "main.py").write_text(APP)
    scene.start_replica("r", "asgi", "main:env", ("main",))
    address = await scene.control.ready("r")
    scene.start_worker("w")
    scene.start_worker("x")
    pids = {unit: await scene.control.started(unit) for unit in ("r", "w", "x")}
    await scene.control.close()
    os.kill(pids["x"], signal.SIGKILL)
    await fact(lambda: not alive(pids["x"]), "one has ended meanwhile")
    scene.control.frames.clear()
    await scene.control.open()
    hello = await scene.control.hello(2)
    assert hello.token == scene.home.token()
    states = {state.unit: state for state in hello.units}
    assert set(states) >= {"r", "w"}
    assert (states["r"].ready, states["r"].address, states["r"].owner) == (True, address, "p/d/app@v1")
    assert (states["w"].pid, states["w"].pool) == (pids["w"], scene.pool().id)
    assert (await scene.control.exited("x")).reason == "killed by SIGKILL"
    assert await scene.control.ready("r") == address
    assert all(alive(pids[unit]) for unit in ("r", "w"))


async def test_an_order_that_comes_twice_is_obeyed_once(scene: Scene) -> None:
    scene.start_worker("w")
    pid = await scene.control.started("w")
    scene.control.frames.clear()
    scene.start_worker("w")
    assert await scene.control.started("w") == pid


async def test_a_ping_is_answered(scene: Scene) -> None:
    scene.control.send(wire.Ping(at=4))
    assert await scene.control.wait(wire.Pong) == wire.Pong(at=4)


# ----------------------------------------------------------------------------------------------- the agent as a process


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[tuple[Scene, Callable[[], subprocess.Popen[bytes]]]]:
    """A scene whose agent is a process of its own, started by the test."""
    scene = Scene(tmp_path)
    await scene.control.open()
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        env = {**process.family_environment(scene.home.path), "TARMAC_HOME": str(scene.home.path)}
        started.append(subprocess.Popen([sys.executable, "-m", "tarmac.agent"], env=env, start_new_session=True))
        return started[-1]

    yield scene, start
    for agent in started:
        agent.kill()
        agent.wait()
    await scene.control.close()
    process.kill(process.orphaned_units(scene.home.path))


SERVE = ("python", "-m", "http.server", "8080")
DAEMON = (
    "import subprocess, sys, time; sleep = [sys.executable, '-S', '-c', 'import time; time.sleep(600)'];"
    "print(subprocess.Popen(sleep, start_new_session=True).pid, flush=True); time.sleep(600)"
)


async def test_everything_dies_with_an_agent_that_is_killed_and_the_next_one_ends_what_got_away(
    real: tuple[Scene, Callable[[], subprocess.Popen[bytes]]],
) -> None:
    scene, start = real
    agent = start()
    await scene.control.hello()
    scene.start_replica("r", "command", argv=list(SERVE))
    scene.start_replica("d", "command", argv=["python", "-c", DAEMON])
    await scene.control.ready("r")
    served, leader = await scene.control.started("r"), await scene.control.started("d")
    log = scene.home.logs / "apps" / "d.log"
    await fact(lambda: log.exists() and log.read_text(), "the daemon is there")
    daemon = int(log.read_text())
    agent.kill()
    await fact(lambda: not alive(served) and not alive(leader), "units die with the agent")
    start()
    hello = await scene.control.hello(2)
    assert hello.units == []
    await fact(lambda: not alive(daemon), "the next agent has found the one that got away")


async def test_an_agent_that_is_asked_to_stop_ends_its_units_first(
    real: tuple[Scene, Callable[[], subprocess.Popen[bytes]]],
) -> None:
    scene, start = real
    agent = start()
    await scene.control.hello()
    scene.start_replica("r", "command", argv=list(SERVE))
    await scene.control.ready("r")
    agent.terminate()
    assert await asyncio.to_thread(agent.wait, 10) == 0
    assert process.orphaned_units(scene.home.path) == set()


# ---------------------------------------------------------------------------------------------------------- small parts


async def test_what_does_not_speak_http_is_not_ready() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        outcome = await probe.ask(server.sockets[0].getsockname()[1], "/")
    assert outcome.message == "what answers on its port does not speak HTTP"


async def test_asking_goes_on_until_the_answer_is_yes() -> None:
    outcomes = [probe.Outcome(False, "not yet", listening=False)] * 3 + [probe.Outcome(True)]

    async def ask(port: int, path: str) -> probe.Outcome:
        return outcomes.pop(0)

    assert await probe.until_ready(1, "/", 10, ask) == probe.Outcome(True)
    assert outcomes == []


def test_the_tail_of_a_log_begins_where_the_unit_began(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("of others\n")
    start = units.size(log)
    with log.open("a") as file:
        file.writelines(f"line {n}\n" for n in range(100))
    assert tails.tail(log, start).splitlines()[-1] == "line 99"
    assert len(tails.tail(log, start).splitlines()) == tails.TAIL_LINES
    assert "others" not in tails.tail(log, start)
    assert tails.tail(tmp_path / "none") == ""


def test_what_is_sent_on_a_link_that_broke_a_moment_ago_is_no_error(tmp_path: Path) -> None:
    """On uvloop, which the agent runs on, writing to it raises: once that ended the agent, and all it kept."""

    async def talk() -> None:
        server = LinkServer(tmp_path / "link.sock")
        await server.open()
        welcomed = asyncio.Event()
        link = ControlLink(tmp_path / "link.sock", lambda: "t", list, lambda frame: None, welcomed.set)
        running = asyncio.create_task(link.run())
        try:
            await asyncio.wait_for(welcomed.wait(), 5)
            link._link._writer.transport.abort()  # type: ignore[union-attr]
            for _ in range(20):  # it is closed some turns of the loop before its reader is told
                link.send(wire.UnitStarted(unit="u", pid=1))
                await asyncio.sleep(0)
            link.send(wire.UnitExited(unit="u", code=0))
            assert (await server.wait(wire.UnitExited)).unit == "u", "an end is told on the next link"
        finally:
            running.cancel()
            await server.close()

    uvloop.run(talk())


async def test_the_next_control_plane_is_told_who_has_ended_and_of_no_old_failure_of_a_pool(tmp_path: Path) -> None:
    """What waits for that pool by then would fail of it, though it may be mended, or fail of it a second time."""
    server = LinkServer(tmp_path / "link.sock")
    await server.open()
    link = ControlLink(tmp_path / "link.sock", lambda: "t", list, lambda frame: None, lambda: None)
    running = asyncio.create_task(link.run())
    try:
        await fact(lambda: bool(server.hellos), "the agent has said hello")
        failed = wire.PoolFailed(pool="p", error=wire.ErrorInfo(code="ModuleLoadError", message="no"))
        link.send(failed)
        link.send(wire.UnitExited(unit="u", code=0))
        await server.wait(wire.UnitExited)
        await server.close()
        server.frames.clear()
        await server.open()
        await server.wait(wire.UnitExited)
        assert server.frames == [wire.UnitExited(unit="u", code=0)]
    finally:
        running.cancel()
        await server.close()


async def test_what_keeps_a_replica_from_being_ready_is_told_once_for_each_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "SILENCE", 0.0)
    answers = iter([probe.Outcome(False, "none", listening=False), *[probe.Outcome(False, "GET / answers 500")] * 3,
                    probe.Outcome(False, "GET / answers 503"), probe.Outcome(True)])  # fmt: skip

    async def ask(port: int, path: str) -> probe.Outcome:
        return next(answers)

    told: list[str] = []
    await probe.until_ready(1, "/", 10, ask, lambda outcome: told.append(outcome.message))
    assert told == ["GET / answers 500", "GET / answers 503"]


def test_the_last_error_is_named_with_the_place_in_the_shipped_code() -> None:
    output = f"""ERROR: Exception in ASGI application
Traceback (most recent call last):
  File "/x/code/{"0a" * 32}/shop/api.py", line 43, in root
    stations()
  File "/usr/lib/python3/site-packages/stations/__init__.py", line 3, in stations
    1 / 0
ZeroDivisionError: division by zero
INFO: Shutting down
"""
    assert tails.last_error(output) == "ZeroDivisionError: division by zero (shop/api.py:43)"
    assert tails.last_error("INFO: all is well") == ""


def test_of_the_end_of_an_apps_log_the_shipped_frames_are_shown_under_their_names_in_the_project() -> None:
    folder = f"/x/code/{'0a' * 32}"
    output = f"""INFO:     Started
ERROR:    Exception in ASGI application
Traceback (most recent call last):
  File "/usr/lib/python3/site-packages/starlette/routing.py", line 683, in app
    raw_response = await run(
                   ^^^^^^^^^^
  File "{folder}/shop/api.py", line 43, in root
    stations()
  File "/usr/lib/python3/site-packages/stations/__init__.py", line 3, in stations
    1 / 0
ZeroDivisionError: division by zero
INFO:     Shutting down
"""
    assert (
        tails.own_frames(output)
        == """INFO:     Started
ERROR:    Exception in ASGI application
Traceback (most recent call last):
  File "shop/api.py", line 43, in root
    stations()
ZeroDivisionError: division by zero"""
    )
    elsewhere = output.replace(folder, "/usr/lib")
    assert tails.own_frames(elsewhere) == elsewhere.removesuffix("\nINFO:     Shutting down\n")
    assert tails.own_frames("INFO: all is well") == "INFO: all is well"

"""The process that fork servers are forked from, driven as the agent drives it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flyte import wire
from flyte.runtime import preload, shared
from tests.flyte.fork_server_driver import Conversation, gone
from tests.platform_fixture import ROOT, wait_for


class BaseDriver:
    def __init__(self, folder: Path, worker: str = "stub_worker") -> None:
        self.link, theirs = socket.socketpair()
        self.link.settimeout(15)
        self._log = folder / "preload.log"
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "programs")])
        command = [sys.executable, "-P", "-m", "flyte.runtime.preload", "--fd", str(theirs.fileno())]
        with theirs, self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--worker", worker],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self.fork_servers: list[Conversation] = []

    def warm(self) -> None:
        self.link.sendall(preload.WARM)
        assert self.link.recv(1) == preload.WARMED

    def fork_server(self, log: Path) -> Conversation:
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            socket.send_fds(self.link, [preload.FORK], [theirs.fileno(), output.fileno()])
        self.fork_servers.append(Conversation(ours, log))
        return self.fork_servers[-1]

    def end(self) -> None:
        for fork_server in self.fork_servers:
            fork_server.link.close()
        self.link.close()
        try:
            self.process.wait(5)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[BaseDriver]:
    made = BaseDriver(tmp_path)
    yield made
    made.end()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


def load(fork_server: Conversation, root: Path, **env: str) -> wire.PoolReady:
    pool = wire.PoolSpec(id="p", name="n", python=sys.executable, root=str(root), modules=["main"], env=env)
    fork_server.send(wire.LoadPool(pool=pool))
    return fork_server.next(wire.PoolReady)


def test_a_fork_server_says_who_it_is_and_has_its_own_session_log_and_environment(
    driver: BaseDriver, root: Path, tmp_path: Path
) -> None:
    (root / "main.py").write_text("import os\nprint(os.environ['COLOUR'], os.getcwd())\n")
    for colour in ("red", "blue"):
        fork_server = driver.fork_server(tmp_path / colour)
        hello = fork_server.next(wire.UnitStarted)
        assert hello.unit == ""
        assert os.getsid(hello.pid) == hello.pid
        assert load(fork_server, root, COLOUR=colour).forks
        assert (tmp_path / colour).read_text() == f"{colour} {root}\n"


def test_the_server_stack_is_shared_once_there_are_apps(driver: BaseDriver, root: Path, tmp_path: Path) -> None:
    (root / "main.py").write_text("import sys\nprint('fastapi' in sys.modules, 'uvicorn' in sys.modules)\n")
    log = tmp_path / "log"
    load(driver.fork_server(log), root)
    driver.warm()
    load(driver.fork_server(log), root)
    assert log.read_text() == "False False\nTrue True\n"


@pytest.mark.parametrize("place", ["fastapi.py", "fastapi/__init__.py"])
def test_code_that_hides_a_shared_package_gets_its_own(
    driver: BaseDriver, root: Path, tmp_path: Path, place: str
) -> None:
    driver.warm()
    (root / "main.py").write_text("import os, fastapi\nprint(fastapi.mine, os.environ['COLOUR'])\n")
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text("mine = 'my own'\n")
    fork_server = driver.fork_server(tmp_path / "log")
    pid = fork_server.next(wire.UnitStarted).pid
    assert load(fork_server, root, COLOUR="red").forks
    assert (tmp_path / "log").read_text() == "my own red\n"
    assert not gone(pid), "it is the same process, begun anew"


def test_a_package_that_was_installed_anew_is_noticed(tmp_path: Path) -> None:
    package = tmp_path / "package.py"
    package.touch()
    pool = wire.PoolSpec(id="p", name="n", python="python", root=str(tmp_path / "code"))
    given = {"package": (str(package), package.stat().st_mtime_ns, package.stat().st_ino)}
    assert not shared.changed(given, pool)
    os.utime(package, ns=(1, 1))
    assert shared.changed(given, pool)
    package.unlink()
    assert shared.changed(given, pool)


def test_pythons_own_library_is_not_looked_after() -> None:
    assert "os" not in shared.loaded()
    assert "pytest" in shared.loaded()


def test_fork_servers_end_with_the_preload(driver: BaseDriver, root: Path, tmp_path: Path) -> None:
    (root / "main.py").touch()
    fork_server = driver.fork_server(tmp_path / "log")
    pid = fork_server.next(wire.UnitStarted).pid
    load(fork_server, root)
    if sys.platform == "linux":
        driver.process.kill()
    else:
        fork_server.link.close()
    wait_for(lambda: gone(pid), "the fork server is gone")


def test_a_fork_that_fails_ends_no_other_fork_server_and_leaves_no_descriptor(root: Path, tmp_path: Path) -> None:
    driver = BaseDriver(tmp_path, "no_forks")
    try:
        (root / "main.py").touch()
        preload = psutil.Process(driver.process.pid)
        refused = driver.fork_server(tmp_path / "refused")
        assert refused.link.recv(1) == b"", "its socket is closed, so that it is started otherwise"
        wait_for(lambda: not [file for file in preload.open_files() if "refused" in file.path], "so is its log")
        pid = driver.fork_server(tmp_path / "log").next(wire.UnitStarted).pid
        assert psutil.Process(pid).ppid() == preload.pid
        assert f"no fork server can be forked: [Errno {errno.EAGAIN}]" in (tmp_path / "preload.log").read_text()
    finally:
        driver.end()


def test_what_the_import_starts_does_not_hold_the_fork_servers_link_open(
    driver: BaseDriver, root: Path, tmp_path: Path
) -> None:
    """Else the fork server's death would go unnoticed for as long as that runs."""
    (root / "main.py").write_text("import os\nos.system('sleep 600 & echo $! > started')\n")
    fork_server = driver.fork_server(tmp_path / "log")
    pid = fork_server.next(wire.UnitStarted).pid
    load(fork_server, root)
    started = int((root / "started").read_text())
    try:
        os.kill(pid, signal.SIGKILL)
        assert fork_server.link.recv(1) == b""
        assert not gone(started)
    finally:
        os.kill(started, signal.SIGKILL)

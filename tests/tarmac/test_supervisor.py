"""The supervisor, with tiny stand-ins for the platform's parts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flyte.backoff import pause
from tarmac import process
from tarmac.home import Home
from tarmac.process import starting
from tarmac.supervisor import fork_server, part_logs
from tarmac.supervisor.address import Address, GivenUp
from tarmac.supervisor.lock import holder, lock_file, locked
from tarmac.supervisor.part import Part
from tarmac.supervisor.part_logs import rotate, tail
from tarmac.supervisor.supervisor import Supervisor
from tests.platform_fixture import wait_for

FOREVER = "import time; time.sleep(600)"


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", text)


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


async def fact(holds: Callable[[], object], promise: str, limit: float = 30) -> None:
    """Wait until `holds`, in the loop."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, promise
        await asyncio.sleep(0.01)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home(tmp_path / "h")
    place.prepare()
    return place


@pytest.fixture(autouse=True)
def own_orphans_alone() -> Iterator[None]:
    """A supervisor in this process has it adopt orphans: no other test is to have them."""
    yield
    if (prctl := starting._prctl()) is not None:
        prctl(starting._PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    process.reap_strangers(())


@contextlib.asynccontextmanager
async def begun(
    home: Home, *parts: Part, lease: float = 60, news: list[GivenUp | None] | None = None
) -> AsyncIterator[Supervisor]:
    """A supervisor of `parts`; what it says of its start goes into `news`."""
    heard: list[GivenUp | None] = [] if news is None else news
    supervisor = Supervisor(home, Address("127.0.0.1", 30080), parts, yes, heard.append, lease)
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.stop()
        await task


@contextlib.asynccontextmanager
async def running(home: Home, *parts: Part) -> AsyncIterator[Supervisor]:
    """A supervisor of `parts` that has said it is up."""
    news: list[GivenUp | None] = []
    async with begun(home, *parts, news=news) as supervisor:
        await fact(lambda: news, "the supervisor says how the start went")
        await fact(lambda: len(process.marked(home.path)) >= len(parts), "every part runs")
        yield supervisor


def pids(home: Home) -> set[int]:
    return process.marked(home.path)


async def test_it_writes_where_the_platform_is_and_removes_that_when_it_stops(home: Home) -> None:
    async with running(home, Part("one", program(FOREVER))):
        state = home.state()
        assert state is not None
        assert state["endpoint"] == "http://127.0.0.1:30080"
        assert state["pid"] == os.getpid()
    assert home.state() is None
    assert pids(home) == set()


async def test_a_part_that_dies_is_started_again_at_once(home: Home) -> None:
    async with running(home, Part("one", program(FOREVER)), Part("two", program(FOREVER))):
        before = pids(home)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        await fact(lambda: len(pids(home) - {victim}) == 2, "there are two again", limit=3)
        assert before - {victim} < pids(home)


async def test_parts_stop_in_the_reverse_order_of_their_start(home: Home, tmp_path: Path) -> None:
    record = tmp_path / "order"
    text = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        f"    print(sys.argv[1], file=open({str(record)!r}, 'a'))\n"
        "    sys.exit()\n"
        "signal.signal(15, end)\n"
        f"print(sys.argv[1], file=open({str(tmp_path / 'up')!r}, 'a'))\n"
        "time.sleep(600)\n"
    )
    parts = [Part(name, (*program(text), name)) for name in ("a", "b", "c")]
    async with running(home, *parts):
        up = tmp_path / "up"
        await fact(lambda: up.exists() and len(up.read_text().split()) == 3, "all can be stopped")
    assert record.read_text().split() == ["c", "b", "a"]


async def test_a_part_that_ignores_its_farewell_is_killed(home: Home) -> None:
    text = f"import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); {FOREVER}"
    async with running(home, Part("deaf", program(text), ((signal.SIGTERM, 0.1),))):
        await fact(lambda: "deaf" in home.part_log("deaf").read_text(), "it does not hear")
    assert pids(home) == set()


async def test_a_start_that_cannot_succeed_is_given_up_with_the_tail_of_the_log(home: Home) -> None:
    news: list[GivenUp | None] = []
    parts = (
        Part("good", program(FOREVER)),
        Part("bad", program("print('no database', flush=True); raise SystemExit(4)")),
    )
    assert await Supervisor(home, Address("127.0.0.1", 1), parts, no, news.append).run() is False
    failure = news[0]
    assert failure is not None
    assert failure.part == "bad"
    assert "exit code 4" in failure.message
    assert "no database" in failure.tail
    assert home.state() is None
    assert pids(home) == set()


async def test_a_start_that_cannot_say_where_the_platform_is_is_given_up(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_state(self: Home, **state: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Home, "write_state", write_state)
    news: list[GivenUp | None] = []
    parts = (Part("good", program(FOREVER)),)
    assert await Supervisor(home, Address("127.0.0.1", 1), parts, yes, news.append).run() is False
    assert news == [GivenUp(f"{home.state_file} cannot be written: No space left on device")]
    assert pids(home) == set()


async def test_it_tells_how_its_parts_are(home: Home) -> None:
    async with running(home, Part("one", program(FOREVER))):
        reader, writer = await asyncio.open_unix_connection(home.supervisor_socket)
        told = json.loads(await reader.read())
        writer.close()
    assert told["pid"] == os.getpid()
    assert [(part["name"], part["state"], part["restarts"]) for part in told["parts"]] == [("one", "running", 0)]


async def test_what_an_earlier_platform_left_is_ended_first(home: Home) -> None:
    env = process.family_environment(home.path)
    orphan = await asyncio.create_subprocess_exec(*program(FOREVER), env=env)
    async with running(home, Part("one", program(FOREVER))):
        assert await asyncio.wait_for(orphan.wait(), 5) == -signal.SIGKILL


def test_only_one_supervisor_holds_a_home(home: Home) -> None:
    assert holder(home) is None
    with locked(home):
        assert holder(home) == os.getpid()
        with pytest.raises(BlockingIOError), locked(home, patience=0.05):
            pass
    assert holder(home) is None


def test_two_that_look_for_the_supervisor_at_once_do_not_take_each_other_for_it(home: Home) -> None:
    with locked(home):
        pass
    with lock_file(home).open() as other:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as the other one does
        assert holder(home) is None


def test_the_pid_that_a_killed_supervisor_left_is_not_the_next_ones(home: Home) -> None:
    """In the moment between taking the lock and saying who has it."""
    with subprocess.Popen(program("")) as dead:
        pass
    lock_file(home).write_text(f"{dead.pid:<20}")
    with lock_file(home).open() as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        assert holder(home) == 0


async def test_where_an_earlier_platform_answered_is_forgotten_before_this_one_does(home: Home) -> None:
    home.write_state(endpoint="http://127.0.0.1:1", pid=os.getpid())
    async with begun(home, Part("mute", program(FOREVER), beats=True)):
        await fact(lambda: pids(home), "it has begun")
        assert home.state() is None


async def test_each_life_of_the_platform_has_a_word_of_its_own_also_under_the_same_pid(home: Home) -> None:
    part = Part("one", program(f"import os; print(os.environ['TARMAC_LIFE'], flush=True); {FOREVER}"))
    for lives in (1, 2):
        async with running(home, part):
            await fact(lambda lives=lives: len(tail(home.part_log("one")).split()) == lives, "it has said its word")  # type: ignore[misc]
    words = tail(home.part_log("one")).split()
    assert len(set(words)) == 2


WHOLE = """
import asyncio, os, sys
from pathlib import Path
from flyte.backoff import pause
from tarmac.home import Home
from tarmac.supervisor.address import Address
from tarmac.supervisor.part import Part
from tarmac.supervisor.supervisor import Supervisor
async def yes(): return True
parts = [Part(name, (sys.executable, "-S", "-c", "import time; time.sleep(600)")) for name in ("a", "b")]
home = Home(Path(sys.argv[1]))
asyncio.run(Supervisor(home, Address("127.0.0.1", 1), parts, yes, lambda failure: print("up", flush=True)).run())
"""


def test_when_the_supervisor_is_killed_everything_beneath_it_ends(home: Home) -> None:
    with subprocess.Popen([sys.executable, "-c", WHOLE, str(home.path)], stdout=subprocess.PIPE) as supervisor:
        try:
            assert supervisor.stdout is not None
            assert supervisor.stdout.readline() == b"up\n"
            wait_for(lambda: len(pids(home)) == 2, "both parts run")
        finally:
            supervisor.kill()
    wait_for(lambda: not pids(home), "no part is left")


def test_a_log_that_has_grown_too_long_is_begun_anew_and_the_last_ones_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("a") as writer:
        for number in range(5):
            print("x" * 10, number, file=writer, flush=True)
            rotate(log, limit=5)
            assert log.read_text() == ""
    kept = [tmp_path / f"a.log.{number}" for number in (1, 2, 3)]
    assert [file.read_text().split()[-1] for file in kept] == ["4", "3", "2"]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be copied."""

    def copyfile(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfile", copyfile)


@pytest.mark.usefixtures("full_disk")
def test_a_log_that_cannot_be_kept_is_begun_anew_all_the_same(tmp_path: Path) -> None:
    log, older = tmp_path / "a.log", tmp_path / "a.log.1"
    log.write_text("new")
    older.write_text("old")
    rotate(log, limit=2)
    assert log.read_text() == ""
    assert not older.exists()
    assert (tmp_path / "a.log.2").read_text() == "old"


def test_a_log_that_cannot_even_be_emptied_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def truncate(file: Path, length: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.truncate", truncate)
    log = tmp_path / "a.log"
    log.write_text("new")
    rotate(log, limit=2)
    assert log.read_text() == "new"


@pytest.mark.usefixtures("full_disk")
async def test_a_full_disk_ends_neither_the_supervisor_nor_a_part_whose_log_is_too_long(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarmac.supervisor.supervisor._LOG_CHECK", 0.01)
    file = home.part_log("one")
    file.touch()
    os.truncate(file, part_logs.LIMIT + 1)
    async with running(home, Part("one", program(FOREVER))) as supervisor:
        assert file.stat().st_size == 0, "it was emptied before the start"
        os.truncate(file, part_logs.LIMIT + 1)
        await fact(lambda: file.stat().st_size == 0, "it is emptied while the part runs")
        (row,) = supervisor.status()["parts"]
        assert (row["state"], row["restarts"]) == ("running", 0)


async def test_a_fault_in_keeping_one_part_is_one_more_end_of_that_part(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = process.ended
    faults = [ZeroDivisionError("a fault of ours")]

    async def ended(child: process.Child) -> int:
        if faults:
            raise faults.pop()
        return await seen(child)

    monkeypatch.setattr(process, "ended", ended)
    async with running(home, Part("one", program(FOREVER))) as supervisor:
        await fact(lambda: supervisor.status()["parts"][0]["restarts"] == 1, "it was started again")
        await fact(lambda: len(pids(home)) == 1, "there is one, and not two")
        assert "a fault of ours" in supervisor.status()["parts"][0]["last_end"]


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1", "http://127.0.0.1:7"),
        ("0.0.0.0", "http://127.0.0.1:7"),
        ("::1", "http://[::1]:7"),
        ("::", "http://[::1]:7"),
    ],
)
def test_the_endpoint_is_one_that_a_client_can_use(host: str, endpoint: str) -> None:
    assert Address(host, 7).endpoint == endpoint


# ------------------------------------------------------------------------------------------------------ the fork server


def spawn(part: Part, file: Path, fds: tuple[int, ...]) -> process.Child:
    with file.open("ab") as output:
        return process.start(part.command, env=dict(os.environ), output=output.fileno(), pass_fds=fds)


FORKED = Part("one", program(FOREVER), module="tarmac.heartbeat")


async def test_without_a_fork_server_that_answers_a_part_is_an_interpreter_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "PATIENCE", 0.1)
    child = await fork_server.ForkServer(spawn, print).fork(FORKED, tmp_path / "one.log")
    process.kill({child.pid})
    assert await process.ended(child) == -signal.SIGKILL
    assert isinstance(child, subprocess.Popen)


async def test_where_orphans_cannot_be_adopted_there_is_no_fork_server(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "adopt_orphans", lambda: False)
    async with running(home, FORKED) as supervisor:
        (part,) = (row for row in supervisor.status()["parts"])
        assert "fork_server" not in supervisor.status()
        assert process.environment(part["pid"])
    assert pids(home) == set()


async def test_a_child_that_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    """Its order was given up, and somebody else is that part by now."""
    late = spawn(FORKED, tmp_path / "late.log", ())
    ours, theirs = socket.socketpair()
    link = fork_server.Link(ours, lambda: None)
    await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
    with theirs:
        theirs.sendall(json.dumps({"part": "one", "pid": late.pid}).encode() + b"\n")
        assert await process.ended(late) == -signal.SIGKILL
    link.close()


async def test_an_order_fails_when_the_fork_server_ends_before_it_answers(tmp_path: Path) -> None:
    lost: list[bool] = []
    ours, theirs = socket.socketpair()
    link = fork_server.Link(ours, lambda: lost.append(True))
    await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
    order = asyncio.ensure_future(link.order("one", "tarmac.heartbeat", "log"))
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(fork_server.Gone):
        await asyncio.wait_for(order, 5)
    assert lost == [True]
    assert not link.busy
    with pytest.raises(fork_server.Gone):
        await link.order("one")


async def test_what_the_fork_server_said_before_it_is_let_go_counts_and_what_it_says_later_fails() -> None:
    ours, theirs = socket.socketpair()
    link = fork_server.Link(ours, lambda: None)
    await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
    order = asyncio.ensure_future(link.order("one", "tarmac.heartbeat", "log"))
    await asyncio.sleep(0)
    with theirs:
        theirs.sendall(b'{"part": "one", "pid": 7}\n')
        link.close()
        assert await asyncio.wait_for(order, 5) == 7
        with pytest.raises(BrokenPipeError):
            theirs.sendall(b'{"part": "one", "pid": 8}\n')


SLOW_FORK_SERVER = """
import sys, time
from pathlib import Path
from tarmac import fork_server

begun, goes_on, link = sys.argv[1:]

class Finder:
    def find_spec(name, path, target=None):
        if name == "slow":
            Path(begun).touch()
            while not Path(goes_on).exists():
                time.sleep(0.01)

sys.meta_path.insert(0, Finder)
fork_server.MODULES = ("slow",)
fork_server.main([link])
"""


async def test_a_fork_server_gives_its_first_heartbeat_when_it_has_imported_everything(tmp_path: Path) -> None:
    """Else one that imports for longer than a lease, on a busy machine, would be taken for dead."""
    begun, goes_on = tmp_path / "begun", tmp_path / "goes-on"
    made = fork_server.ForkServer(spawn, print)
    command = (sys.executable, "-c", SLOW_FORK_SERVER, str(begun), str(goes_on))
    child = await made.start(Part("fork-server", command), tmp_path / "fork_server.log")
    asking = asyncio.ensure_future(made.lives())
    try:
        await fact(begun.exists, "the import has begun")
        assert not asking.done()
        goes_on.touch()
        assert await asyncio.wait_for(asking, 10)
    finally:
        made.renew()
        goes_on.touch()
        assert await process.ended(child) == 0


async def test_a_fork_server_that_is_continued_after_its_order_was_given_up_starts_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.adopt_orphans()
    env = process.family_environment(home.path, {**os.environ, "TARMAC_HOME": str(home.path), "TARMAC_HAPROXY": "none"})
    ends: list[str] = []
    made = fork_server.ForkServer(fork_server.spawner(env, home.path), ends.append)
    child = await made.start(fork_server.PART, home.part_log("fork-server"))
    try:
        assert await made.lives()
        os.kill(child.pid, signal.SIGSTOP)
        monkeypatch.setattr(fork_server, "PATIENCE", 0.1)
        part = await made.fork(Part("one", program(FOREVER), module="tarmac.gateway.haproxy"), home.part_log("one"))
        assert ends == ["it did not fork within 0.1 s"]
        os.kill(child.pid, signal.SIGCONT)
        assert await process.ended(child) == 0
        await fact(lambda: pids(home) == {part.pid}, "what it forked is gone")
        assert home.part_log("one").read_text() == "", "and has not begun to be the part"
    finally:
        process.kill(pids(home))
    await process.ended(part)


async def test_a_fork_server_that_is_stopped_while_a_part_is_started_is_replaced(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(home, Part("controller", program(FOREVER), module="tarmac.gateway.__main__")) as supervisor:
        await fact(lambda: supervisor.status()["parts"][0]["pid"], "the part runs")
        told = supervisor.status()
        assert told["fork_server"]["restarts"] == 0
        monkeypatch.setattr(fork_server, "PATIENCE", 0.1)
        os.kill(told["fork_server"]["pid"], signal.SIGSTOP)
        os.kill(told["parts"][0]["pid"], signal.SIGKILL)
        await fact(lambda: supervisor.status()["fork_server"]["last_end"], "the fork server is ended")
        assert supervisor.status()["fork_server"]["last_end"] == "killed by SIGKILL: it did not fork within 0.1 s"
        await fact(lambda: supervisor.status()["parts"][0]["state"] == "running", "the part runs")


async def test_a_fork_server_that_cannot_fork_says_why(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    link = fork_server.Link(ours, lambda: None)
    await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
    order = asyncio.ensure_future(link.order("one", "tarmac.heartbeat", "log"))
    with theirs:
        theirs.sendall(b'{"part": "one", "error": "Resource temporarily unavailable"}\n')
        with pytest.raises(OSError, match="temporarily"):
            await asyncio.wait_for(order, 5)
    link.close()


BEATS_ONCE = """
import os, socket, sys, time
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(str(os.getpid()).encode(), sys.argv[1])
time.sleep(600)
"""


async def test_a_part_that_had_come_up_is_started_again_without_a_pause(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is killed: seven deaths in a row would be followed by a pause of two seconds."""
    deaths: list[int] = []

    def noted(failures: int, first: float, longest: float) -> float:
        deaths.append(failures)
        return pause(failures, first, longest)

    monkeypatch.setattr("tarmac.supervisor.part.pause", noted)
    async with running(home, Part("one", (*program(BEATS_ONCE), str(home.heartbeat_socket)))) as supervisor:

        def one() -> dict[str, object]:
            row: dict[str, object] = supervisor.status()["parts"][0]
            return row

        for restarts in range(1, 8):
            await fact(lambda: one()["silent"] is not None, "it has come up")
            os.kill(int(str(one()["pid"])), signal.SIGKILL)
            await fact(lambda restarts=restarts: one()["restarts"] == restarts, "it has ended")  # type: ignore[misc]
    assert deaths == [0] * 7


# ------------------------------------------------------------------------------------------------------ heartbeats


def first(supervisor: Supervisor) -> dict[str, object]:
    row: dict[str, object] = supervisor.status()["parts"][0]
    return row


async def test_a_part_that_never_gives_a_heartbeat_is_started_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarmac.heartbeat.FIRST_LIMIT", 1.0)
    async with begun(home, Part("mute", program(FOREVER), beats=True), lease=0.5) as supervisor:
        await fact(lambda: first(supervisor)["restarts"], "it is started again")
        assert first(supervisor)["last_end"] == "killed by SIGKILL: it sent no heartbeat for 1 s"


async def test_a_part_that_is_stopped_as_soon_as_it_is_there_is_started_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it has not become the leader of its group yet."""
    monkeypatch.setattr("tarmac.heartbeat.FIRST_LIMIT", 3.0)
    controller = Part("controller", program(FOREVER), module="tarmac.gateway.__main__", beats=True)
    async with begun(home, controller, lease=3) as supervisor:
        await fact(
            lambda: supervisor.status()["fork_server"]["silent"] is not None,
            "the fork server forks at once from now on",
            30,
        )
        await fact(lambda: first(supervisor)["pid"], "the first is there")
        before = int(str(first(supervisor)["pid"]))
        os.kill(before, signal.SIGKILL)
        await fact(lambda: first(supervisor)["pid"] not in (None, before), "there is another one")
        os.kill(int(str(first(supervisor)["pid"])), signal.SIGSTOP)
        await fact(lambda: first(supervisor)["restarts"] == 2, "it is started again", 30)
        assert first(supervisor)["last_end"] == "killed by SIGKILL: it sent no heartbeat for 3 s"


async def test_a_fork_server_that_is_stopped_as_soon_as_it_is_there_is_replaced(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarmac.heartbeat.FIRST_LIMIT", 1.0)
    async with begun(home, Part("one", program(FOREVER), module="tarmac.gateway.__main__"), lease=1) as supervisor:
        await fact(lambda: supervisor.status()["fork_server"]["pid"], "it is there")
        os.kill(supervisor.status()["fork_server"]["pid"], signal.SIGSTOP)
        await fact(lambda: supervisor.status()["fork_server"]["restarts"], "it is started again")
        assert supervisor.status()["fork_server"]["last_end"] == "killed by SIGKILL: it sent no heartbeat for 1 s"


ORPHAN = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""


async def test_orphans_are_reaped_also_when_the_fork_server_hangs(home: Home) -> None:
    forked = Part("controller", program(FOREVER), module="tarmac.gateway.__main__")
    async with begun(home, forked, Part("mother", program(ORPHAN)), lease=1) as supervisor:
        await fact(lambda: tail(home.part_log("mother")), "there is an orphan")
        await fact(
            lambda: supervisor.status()["fork_server"]["silent"] is not None, "the fork server is asked for heartbeats"
        )
        os.kill(supervisor.status()["fork_server"]["pid"], signal.SIGSTOP)
        orphan = int(tail(home.part_log("mother")))
        os.kill(orphan, signal.SIGKILL)
        await fact(lambda: not psutil.pid_exists(orphan), "it is reaped")


SLOW = """
import os, socket, sys, time
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
end = time.monotonic() + 6
while time.monotonic() < end:
    sock.sendto(b"%d?" % os.getpid(), sys.argv[1])
    time.sleep(0.05)
print("three leases are over", flush=True)
sock.sendto(b"%d" % os.getpid(), sys.argv[1])
time.sleep(600)
"""


async def test_a_part_that_is_slow_to_come_up_and_says_that_it_lives_is_let_live(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarmac.heartbeat.FIRST_LIMIT", 2.0)
    news: list[GivenUp | None] = []
    part = Part("slow", (*program(SLOW), str(home.heartbeat_socket)), beats=True)
    async with begun(home, part, lease=2, news=news) as supervisor:

        def has_come_up() -> bool:
            is_over = "are over" in tail(home.part_log("slow"))
            assert first(supervisor)["restarts"] == 0
            assert is_over or (first(supervisor)["silent"] is None and not news)
            return bool(news)

        await fact(has_come_up, "it has come up", limit=30)
        assert news == [None]

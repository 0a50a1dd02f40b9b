"""A fork server, driven over its socket pair as the agent drives it."""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
from pathlib import Path

import psutil
import pytest

from flyte import wire
from tests.flyte.fork_server_driver import ForkServers, gone, lines
from tests.platform_fixture import wait_for

# ---------------------------------------------------------------------------------------------------------- importing


def test_a_module_is_imported_once_and_shared_by_all_forks(fork_server: ForkServers, root: Path) -> None:
    (root / "mine.py").write_text("print('imported')\nimport os\nwho = os.getpid()\n")
    driver = fork_server()
    driver.load("mine")
    assert driver.next(wire.PoolReady) == wire.PoolReady(pool="pool", forks=True, variables=[])
    first, second = driver.worker("a", "exit:0"), driver.worker("b", "exit:0")
    assert first != second
    driver.next(wire.UnitExited, "b")
    assert driver.log.read_text().count("imported") == 1


def test_the_root_comes_first_on_the_path_then_the_folders_below_it(fork_server: ForkServers, root: Path) -> None:
    (root / "main.py").write_text(
        "import os, sys, helper\nprint(os.getcwd(), helper.__file__, sys.path[:2], sys.argv)\n"
    )
    (root / "lib").mkdir()
    (root / "lib" / "helper.py").touch()
    driver = fork_server()
    driver.load("main", sys_path=("lib",))
    driver.next(wire.PoolReady)
    assert f"{root} {root}/lib/helper.py ['{root}', '{root}/lib'] ['']" in driver.log.read_text()


def test_a_users_module_does_not_replace_one_of_ours(fork_server: ForkServers, root: Path) -> None:
    (root / "flyte.py").write_text("raise SystemExit('the wrong flyte')\n")
    (root / "socket.py").write_text("raise SystemExit('the wrong socket')\n")
    (root / "main.py").write_text("import flyte.wire\n")
    driver = fork_server()
    driver.load("main")
    assert driver.next(wire.PoolReady).forks


def test_a_broken_import_is_reported_with_the_users_own_frames(fork_server: ForkServers, root: Path) -> None:
    (root / "main.py").write_text("import part\n")
    (root / "part.py").write_text("def load():\n    return 1 / 0\nload()\n")
    driver = fork_server()
    driver.load("main")
    error = driver.next(wire.PoolFailed).error
    assert error.code == "ModuleLoadError"
    assert error.message == "cannot import module 'main': ZeroDivisionError: division by zero"
    assert error.kind == "user"
    files = [line.split(",")[0].strip() for line in error.traceback.splitlines() if line.strip().startswith("File ")]
    assert files == [f'File "{root}/main.py"', f'File "{root}/part.py"', f'File "{root}/part.py"']


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere.at_all", '.with_pip_packages("nowhere")'),
        ("def f(:\n", "(main.py, line 1)"),
        ("import nowhere.at_all", "it has to lie below the root folder"),
        ("import sys; sys.exit(3)", "ends the process while it is imported"),
        ("open('prompts/one.txt')", 'name it in the environment, include=["prompts/one.txt"]'),
        (
            "from starlette.staticfiles import StaticFiles\nStaticFiles(directory='static')",
            'static was not shipped with the code: name it in the environment, include=["static"]',
        ),
        ("import importlib, sys; sys.modules.pop('queue', None)\nfrom queue import Queue", "queue.py hides the module"),
    ],
)
def test_a_broken_import_says_what_to_do(fork_server: ForkServers, root: Path, source: str, message: str) -> None:
    (root / "main.py").write_text(source)
    (root / "queue.py").touch()
    driver = fork_server()
    driver.load("main")
    assert message in driver.next(wire.PoolFailed).error.message


def test_a_folder_that_is_not_there_is_named(fork_server: ForkServers, root: Path) -> None:
    root.rmdir()
    driver = fork_server()
    driver.load("main")
    error = driver.next(wire.PoolFailed).error
    assert error.code == "CodeBundleError"
    assert str(root) in error.message
    root.mkdir()


# ------------------------------------------------------------------------------------------------------- safe to fork

THREAD = (
    "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True, name='poller').start()\n"
)


def test_code_that_leaves_threads_running_is_not_forked_and_the_threads_are_named(
    fork_server: ForkServers, root: Path
) -> None:
    (root / "main.py").write_text(f"{THREAD}print('imported', threading.active_count())\n")
    driver = fork_server()
    driver.load("main")
    ready = driver.next(wire.PoolReady)
    assert not ready.forks
    assert ready.message == "its import leaves threads running: poller"
    driver.worker("w", "exit:5")
    assert driver.next(wire.UnitExited) == wire.UnitExited(unit="w", code=5)
    assert driver.log.read_text().count("imported 2") == 2, "the unit has imported it for itself"


def test_code_that_says_fork_false_is_imported_by_its_units_alone(fork_server: ForkServers, root: Path) -> None:
    (root / "main.py").write_text("print('imported')\n")
    driver = fork_server()
    driver.load("main", fork=False)
    assert driver.next(wire.PoolReady) == wire.PoolReady(
        pool="pool", forks=False, message="its environment says fork=False"
    )
    assert "imported" not in driver.log.read_text()
    driver.worker("w", "exit:0")
    driver.next(wire.UnitExited)
    assert "imported" in driver.log.read_text()


def test_a_unit_that_cannot_import_its_code_fails_the_pool(fork_server: ForkServers, root: Path) -> None:
    (root / "main.py").write_text("1 / 0\n")
    driver = fork_server()
    driver.load("main", fork=False)
    driver.next(wire.PoolReady)
    driver.worker("w")
    assert "ZeroDivisionError" in driver.next(wire.PoolFailed).error.message
    assert driver.next(wire.UnitExited).code == 1


def test_numpy_is_forked_although_its_import_starts_threads(fork_server: ForkServers, root: Path) -> None:
    pytest.importorskip("numpy")
    (root / "main.py").write_text("import numpy, os\nprint('threads', len(os.listdir('/proc/self/task')))\n")
    driver = fork_server(OPENBLAS_NUM_THREADS="3")
    driver.load("main")
    assert driver.next(wire.PoolReady).forks
    if "threads 1" in driver.log.read_text():
        pytest.skip("this numpy starts no threads")


def drawn(fork_server: ForkServers, root: Path, folder: Path, program: str) -> list[list[str]]:
    """What `draw` of the module `main` returns in two units."""
    (root / "main.py").write_text(program)
    driver = fork_server()
    driver.load("main")
    for unit in ("a", "b"):
        driver.worker(unit, "code:import main; print(*main.draw())", folder / unit)
    return [lines(folder / unit, lambda text: text.count("\n") == 2).splitlines()[1].split() for unit in ("a", "b")]


def test_units_draw_different_numbers_from_generators_that_nobody_seeded(
    fork_server: ForkServers, root: Path, tmp_path: Path
) -> None:
    program = """
import random
own = random.Random()
def draw():
    return random.random(), own.random()
"""
    first, second = drawn(fork_server, root, tmp_path, program)
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_generators_that_the_import_seeded_go_on_as_in_a_process_of_their_own(
    fork_server: ForkServers, root: Path, tmp_path: Path
) -> None:
    program = """
import random
random.seed(3)
own = random.Random(5)
def draw():
    return random.random(), own.random()
"""
    python = random.Random(3)
    python.random()  # which the stub of a worker has printed
    expected = [str(python.random()), str(random.Random(5).random())]
    assert drawn(fork_server, root, tmp_path, program) == [expected, expected]


def test_a_module_can_keep_the_function_that_seeds(fork_server: ForkServers, root: Path, tmp_path: Path) -> None:
    """As an attribute of a class, too, from where it is called as anywhere, and of which Python does not warn."""
    program = """
import random, warnings
warnings.simplefilter("error")
class Dice:
    seed = random.seed
Dice.seed(3)
Dice().seed(3)
def draw():
    Dice().seed(4)
    return random.random(), type(Dice.seed).__name__
"""
    assert drawn(fork_server, root, tmp_path, program)[0] == [str(random.Random(4).random()), "method"]


def test_numpys_generators_are_no_different(fork_server: ForkServers, root: Path, tmp_path: Path) -> None:
    """The first seven nobody seeded, wherever the module keeps them; the last four the program did."""
    pytest.importorskip("numpy")
    program = """
import numpy as np
class Model:
    rng = np.random.default_rng()
    def __init__(self):
        self.rng = np.random.default_rng()
own, old, model = np.random.default_rng(), np.random.RandomState(), Model()
kept = {"a": [np.random.Generator(np.random.Philox())]}
child = own.bit_generator.seed_seq.spawn(1)[0] if hasattr(own.bit_generator, "seed_seq") else None
spawned = np.random.default_rng(child)
five, large = np.random.default_rng(5), np.random.default_rng(122807528840384100672342137672332424406)
old_seven = np.random.RandomState(7)
model.seeded = np.random.default_rng([1, 2])
def draw():
    free = own, old, Model.rng, model.rng, kept["a"][0], spawned
    return [each.random_sample() if each is old else each.random() for each in free] + [
        np.random.rand(), five.random(), large.random(), old_seven.random_sample(), model.seeded.random()]
"""
    first, second = drawn(fork_server, root, tmp_path, program)
    same = [a == b for a, b in zip(first, second, strict=True)]
    assert same == [False] * 7 + [True] * 4


TORCH = """
import random
_seed = 5_000_000_000
def initial_seed():
    return _seed
def manual_seed(number):
    global _seed
    _seed = number
def seed():
    manual_seed(random.SystemRandom().randrange(2**32, 2**53))
"""
"""What we ask of PyTorch, which is too large to be installed for it: a seed that it drew has 53 bits."""


@pytest.mark.parametrize(("told", "same"), [("", False), ("torch.manual_seed(7)", True)])
def test_torchs_generator_is_no_different(
    fork_server: ForkServers, root: Path, tmp_path: Path, told: str, same: bool
) -> None:
    (root / "torch.py").write_text(TORCH)
    program = f"""
import torch
{told}
def draw():
    return [torch.initial_seed()]
"""
    first, second = drawn(fork_server, root, tmp_path, program)
    assert (first == second) is same


# --------------------------------------------------------------------------------------------------------------- units


def test_a_unit_leads_a_session_and_has_its_own_environment_and_log(
    fork_server: ForkServers, root: Path, tmp_path: Path
) -> None:
    driver = fork_server(COLOUR="red")
    driver.load()
    driver.next(wire.PoolReady)
    log = tmp_path / "deep" / "er" / "w.log"
    pid = driver.worker("w-1", log=log)
    assert lines(log).startswith("worker w-1 reuse=False concurrency=1")
    assert os.getsid(pid) == pid
    assert log.stat().st_mode & 0o777 == 0o600
    assert "worker" not in driver.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_the_last_words_of_a_unit_that_crashes_are_in_its_log(
    fork_server: ForkServers, tmp_path: Path, number: signal.Signals
) -> None:
    driver = fork_server()
    driver.load()
    log = tmp_path / "w.log"
    driver.worker("w", f"kill:{number.value}", log)
    assert driver.next(wire.UnitExited) == wire.UnitExited(unit="w", signal=number.value)
    assert "last words" in log.read_text()
    assert ("Fatal Python error" in log.read_text()) == (number == signal.SIGSEGV)


def test_an_exception_that_nobody_caught_is_in_the_log(fork_server: ForkServers, tmp_path: Path) -> None:
    driver = fork_server()
    driver.load()
    driver.worker("w", "raise:by nobody", tmp_path / "w.log")
    assert driver.next(wire.UnitExited).code == 1
    assert "RuntimeError: by nobody" in (tmp_path / "w.log").read_text()


def test_what_modules_registered_for_the_end_runs_in_the_unit(
    fork_server: ForkServers, root: Path, tmp_path: Path
) -> None:
    (root / "main.py").write_text("import atexit\natexit.register(print, 'goodbye')\n")
    driver = fork_server()
    driver.load("main")
    driver.worker("w", "exit:0", tmp_path / "w.log")
    driver.next(wire.UnitExited)
    assert "goodbye" in (tmp_path / "w.log").read_text()


def test_a_signal_takes_the_whole_process_group(fork_server: ForkServers, tmp_path: Path) -> None:
    driver = fork_server()
    driver.load()
    log = tmp_path / "w.log"
    driver.worker("w", "children", log)
    here, away = map(int, lines(log, lambda text: "children" in text).rpartition("children")[2].split())
    try:
        driver.send(wire.SignalUnit(unit="w", signal=signal.SIGTERM))
        assert driver.next(wire.UnitExited).signal == signal.SIGTERM
        wait_for(lambda: gone(here), "the child in its group is gone")
    finally:
        os.kill(away, signal.SIGKILL)


def test_what_a_unit_leaves_in_its_group_is_killed_when_it_ends(
    fork_server: ForkServers, root: Path, tmp_path: Path
) -> None:
    (root / "main.py").write_text(
        "import atexit, os, subprocess, sys\n"
        "def leave():\n"
        "    child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        "    print('left', child.pid)\n"
        "atexit.register(leave)\n"
    )
    driver = fork_server()
    driver.load("main")
    driver.worker("w", "exit:0", tmp_path / "w.log")
    assert driver.next(wire.UnitExited).code == 0
    child = int((tmp_path / "w.log").read_text().split()[-1])
    wait_for(lambda: gone(child), "the child is gone")


def test_signals_for_units_that_are_gone_or_unknown_are_ignored(fork_server: ForkServers) -> None:
    driver = fork_server()
    driver.load()
    driver.send(wire.SignalUnit(unit="nobody", signal=signal.SIGKILL))
    driver.worker("w", "exit:0")
    driver.next(wire.UnitExited)
    driver.send(wire.SignalUnit(unit="w", signal=signal.SIGKILL))
    driver.worker("x", "exit:0")
    assert driver.next(wire.UnitExited, "x").code == 0


def test_when_the_agent_hangs_up_fork_server_and_units_end(fork_server: ForkServers) -> None:
    driver = fork_server()
    driver.load()
    pid = driver.worker("w", "deaf")
    driver.link.close()
    assert driver.process.wait(5) == 0
    wait_for(lambda: gone(pid), "the unit is gone")


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the agent ends the units of a fork server that was killed"
)
def test_units_die_with_a_fork_server_that_is_killed(fork_server: ForkServers) -> None:
    driver = fork_server()
    driver.load()
    pid = driver.worker("w", "deaf")
    driver.process.kill()
    wait_for(lambda: gone(pid), "the unit is gone")


# ------------------------------------------------------------------------------------------------------ a short machine

REFUSES_TWICE = """
import errno, os, signal
fork, refused = os.fork, []

def refuse():
    if len(refused) == 2:
        return fork()
    refused.append(1)
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

def begin(number, frame):
    os.fork = refuse

signal.signal(signal.SIGUSR1, begin)
"""


def test_a_fork_that_fails_is_told_and_costs_the_other_units_nothing(
    fork_server: ForkServers, root: Path, tmp_path: Path
) -> None:
    (root / "main.py").write_text(REFUSES_TWICE)
    driver = fork_server()
    driver.load("main")
    driver.next(wire.PoolReady)
    process = psutil.Process(driver.process.pid)
    before = process.num_fds()
    living = driver.worker("living")
    os.kill(driver.process.pid, signal.SIGUSR1)
    output = tmp_path / "output.log"
    for unit in ("a", "b"):
        driver.send(wire.ForkUnit(unit=unit, kind="worker", env={"STUB": "wait", "FLYTE_OUTPUT": str(output)}))
        exited = driver.next(wire.UnitExited, unit)
        assert (exited.code, exited.signal) == (None, None)
        assert exited.reason == f"no process can be made: [Errno {errno.EAGAIN}] Resource temporarily unavailable"
    wait_for(
        lambda: process.num_fds() == before, "no descriptor is left of those, nor of the pipe to the one that lives"
    )
    assert not gone(living)
    assert driver.worker("c", "exit:3")
    assert driver.next(wire.UnitExited, "c").code == 3

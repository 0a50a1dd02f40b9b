"""Whatever is killed is back by itself, and no run is the worse for it. Real processes, real SIGKILL."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.faults.world import PARTS, World, alive
from tests.platform_fixture import wait_for


@pytest.mark.parametrize("part", ["control", "gateway", "haproxy"])
def test_a_killed_part_is_back_and_no_action_is_run_again(world: World, part: str) -> None:
    """Workers are not restarted for it: they go on, and find the next control plane."""
    opens = world.platform.work / f"open-{part}"
    run, fan = world.run("staged", opens=str(opens)), world.run("fan", width=6, seconds=0.3)
    world.noted("gate")
    world.restart(part)
    opens.touch()
    assert world.outputs(run) == [0, 1, 2]
    assert world.outputs(fan) == 15
    counts = world.count()
    assert (counts["staged"], counts["gate"], counts["fan"]) == (1, 1, 1)
    assert [counts[f"leaf-{n}"] for n in range(6)] == [2, 2, 2, 1, 1, 1]
    assert {action["attempt"] for name in (run, fan) for action in world.actions(name) if "attempt" in action} <= {1}


def test_after_the_agents_death_a_parent_finds_its_finished_children(world: World) -> None:
    """All processes end with the agent; what was running runs again, what was finished does not."""
    opens = world.platform.work / "open-agent"
    run = world.run("staged", opens=str(opens))
    world.noted("gate")
    world.restart("agent")
    world.noted("gate", 2)
    opens.touch()
    assert world.outputs(run) == [0, 1, 2]
    counts = world.count()
    assert (counts["staged"], counts["gate"]) == (2, 2)
    assert [counts[f"leaf-{n}"] for n in range(3)] == [1, 1, 1]
    assert world.state(run)["attempt"] == 2


def test_a_killed_fork_server_costs_its_runs_one_attempt(world: World) -> None:
    opens = world.platform.work / "open-fork-server"
    run = world.run("staged", opens=str(opens))
    _, pid, _ = world.noted("gate")
    (fork_server,) = [each for each in world.fork_servers() if int(pid) in [unit.pid for unit in each.children()]]
    fork_server.kill()
    world.noted("gate", 2)
    opens.touch()
    assert world.outputs(run) == [0, 1, 2]
    assert [world.count()[f"leaf-{n}"] for n in range(3)] == [1, 1, 1]


SLOW_ONCE = """
import os, pathlib, sys, time

import flyte

env = flyte.TaskEnvironment(name="slow-{name}")


@env.task
def hello() -> str:
    return "hello"


begun = pathlib.Path({begun!r})
if __name__ == "__main__":
    flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
    print(flyte.run(hello).name)
elif not begun.exists():
    begun.write_text(f"{{os.getpid()}}\\n")
    time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["fork_server", "preload"])
def test_an_import_that_is_killed_costs_its_run_nothing(world: World, victim: str) -> None:
    begun = world.platform.work / f"begun-{victim}"
    program = world.platform.write(f"slow_{victim}.py", SLOW_ONCE.format(name=victim, begun=str(begun)))
    started = world.platform.python(program)
    assert started.code == 0, started.both
    wait_for(lambda: begun.exists() and begun.read_text().endswith("\n"), "the import has begun")
    fork_server = int(begun.read_text())
    killed = fork_server if victim == "fork_server" else psutil.Process(fork_server).ppid()
    assert victim == "fork_server" or killed in [preload.pid for preload in world.preloads()]
    os.kill(killed, signal.SIGKILL)
    run = started.out.split()[-1]
    assert world.outputs(run) == "hello"
    assert world.state(run).get("attempt", 1) == 1
    wait_for(lambda: not alive(fork_server), "the import that was killed is gone")


def test_a_preload_that_is_stopped_holds_up_a_new_environment_for_some_seconds_and_ends_nothing(world: World) -> None:
    opens = world.platform.work / "open-stopped-preload"
    run = world.run("gate", opens=str(opens))
    pid = int(world.noted("gate")[1])
    (preload,) = [
        preload for preload in world.preloads() if pid in [unit.pid for unit in preload.children(recursive=True)]
    ]
    preload.suspend()
    program = world.platform.write("late.py", SLOW_ONCE.format(name="late", begun="/"))
    started = world.platform.python(program)
    assert world.outputs(started.out.split()[-1]) == "hello"
    wait_for(
        lambda: len([other for other in world.preloads() if other != preload]) >= 1, "there is another preload process"
    )
    assert alive(pid)
    opens.touch()
    assert world.outputs(run) == "open"
    assert world.state(run).get("attempt", 1) == 1


def test_when_a_parent_dies_its_running_child_is_attached_and_not_doubled(world: World) -> None:
    opens = world.platform.work / "open-parent"
    run = world.run("staged", opens=str(opens))
    _, child, _ = world.noted("gate")
    _, parent, _ = world.noted("staged")
    os.kill(int(parent), signal.SIGKILL)
    world.noted("staged", 2)
    assert alive(int(child))
    opens.touch()
    assert world.outputs(run) == [0, 1, 2]
    assert world.count()["gate"] == 1


def test_when_a_caller_dies_the_run_that_it_called_is_found_and_not_doubled(world: World) -> None:
    opens = world.platform.work / "open-calling"
    run = world.run("calling", opens=str(opens))
    _, called, _ = world.noted("gate")
    _, caller, _ = world.noted("calling")
    os.kill(int(caller), signal.SIGKILL)
    world.noted("calling", 2)
    assert alive(int(called))
    opens.touch()
    assert world.outputs(run) == "open"
    assert world.count()["gate"] == 1


def test_a_caller_that_failed_by_itself_finds_what_it_called(world: World) -> None:
    opens = world.platform.work / "open-failing"
    opens.touch()
    run = world.run("calling", opens=str(opens), raises=True)
    assert world.outputs(run) == "open"
    assert (world.count()["calling"], world.count()["gate"]) == (2, 1)


def test_a_worker_that_is_killed_costs_none_of_the_users_retries(world: World) -> None:
    opens = world.platform.work / "open-worker"
    run = world.run("gate", opens=str(opens))
    _, pid, _ = world.noted("gate")
    os.kill(int(pid), signal.SIGKILL)
    world.noted("gate", 2)
    opens.touch()
    assert world.outputs(run) == "open"
    attempts = world.call("GET", f"/v1/runs/{run}/actions/a0")["attempts"]
    assert [attempt["phase"] for attempt in attempts] == ["failed", "succeeded"]
    assert attempts[0]["error"]["kind"] == "system"


@pytest.mark.parametrize("parts", [("control", "agent"), ("control", "haproxy", "gateway"), PARTS])
def test_several_at_once(world: World, parts: tuple[str, ...]) -> None:
    opens = world.platform.work / f"open-{'-'.join(parts)}"
    run = world.run("staged", opens=str(opens))
    world.noted("gate")
    world.restart(*parts)
    opens.touch()
    assert world.outputs(run) == [0, 1, 2]
    assert [world.count()[f"leaf-{n}"] for n in range(3)] == [1, 1, 1]


def test_a_traced_step_is_not_done_again_after_a_crash(world: World) -> None:
    """Functions and generators, sync and async."""
    run = world.run("traced")
    assert world.outputs(run) == [10, 200, 0, 1, 2, 0, 1, 2, 30]
    counts = world.count()
    assert counts == dict.fromkeys(counts, 1)
    assert len(counts) == 9


def test_each_action_has_traced_steps_of_its_own_and_keeps_them_over_a_crash(world: World) -> None:
    """Also where several call the same function with the same arguments."""
    pairs = world.outputs(world.run("holders", count=3))
    assert len({token for pair in pairs for token in pair}) == 6
    assert world.count()["token"] == 6


@pytest.mark.parametrize("parts", [["agent"], ["control"], ["agent", "control", "gateway", "haproxy"]])
def test_an_orderly_end_of_a_part_costs_no_run_anything(world: World, parts: list[str]) -> None:
    """A parent that waits is cancelled by it, and does not cancel what it waits for."""
    opens = world.platform.work / f"open-orderly-{'-'.join(parts)}"
    run = world.run("staged", opens=str(opens))
    reluctant = world.run("reluctant", opens=str(opens))
    world.noted("gate", 2)
    hit = world.kill(parts, signal.SIGTERM)
    wait_for(lambda: world.is_back(hit), "they are back", 20, world.platform.log_tails)
    if "agent" in parts:
        world.noted("gate", 4)
    opens.touch()
    assert world.outputs(run) == [0, 1, 2]
    assert world.outputs(reluctant) == "open"
    assert [world.count()[f"leaf-{n}"] for n in range(3)] == [1, 1, 1]


def test_a_control_plane_that_is_told_to_end_under_load_ends_in_order(world: World) -> None:
    """Or else it would be taken for one that crashed, and be what it was instead of what is installed now."""
    runs = [world.run("fan", width=40) for _ in range(6)]
    for _ in range(3):
        hit = world.kill(["control"], signal.SIGTERM)
        wait_for(lambda: world.is_back(hit), "the control plane is back", 20, world.platform.log_tails)  # noqa: B023
        assert world.told()["control"]["last_end"] == "exit code 0"
    assert [world.outputs(run) for run in runs] == [sum(range(40))] * 6


def test_code_that_keeps_the_interpreter_to_itself_survives_a_restart_of_the_control_plane(world: World) -> None:
    run = world.run("deaf", seconds=5)
    world.noted("deaf")
    world.restart("control")
    assert world.outputs(run) == "done"
    assert (world.count()["deaf"], world.state(run).get("attempt", 1)) == (1, 1)


def test_an_error_that_is_not_recoverable_is_not_tried_again(world: World) -> None:
    done = world.result(world.run("hopeless"))
    assert (done["phase"], done["error"]["code"]) == ("failed", "NonRecoverableError")
    assert world.count()["hopeless"] == 1


def test_nothing_outlives_the_supervisor_and_the_next_up_goes_on(fresh: World) -> None:
    """Twice: the second platform is told from the first by nothing that a run could notice."""
    opens = fresh.platform.work / "open"
    run = fresh.run("staged", opens=str(opens))
    fresh.noted("gate")
    os.kill(int(fresh.platform.state["pid"]), signal.SIGKILL)
    fresh.platform.wait_until_gone(5)
    fresh.platform.up()
    fresh.http.close()
    fresh.http = fresh.platform.client()
    wait_for(fresh.answers, "the platform answers", 10)
    fresh.noted("gate", 2)
    opens.touch()
    assert fresh.outputs(run) == [0, 1, 2]
    assert [fresh.count()[f"leaf-{n}"] for n in range(3)] == [1, 1, 1]

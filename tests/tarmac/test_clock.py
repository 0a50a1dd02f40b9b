"""How long ago something was, through clocks that are set and control planes that are restarted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarmac.control.clock import Clock


class Machine:
    """Its two clocks, and the control plane's files."""

    def __init__(self, folder: Path) -> None:
        self.shown, self.steady = 1_000_000.0, 50.0
        self._file, self._boot = folder / "clock", folder / "boot_id"
        self._boot.write_text("first\n")

    def passes(self, seconds: float) -> None:
        self.shown += seconds
        self.steady += seconds

    def start(self) -> Clock:
        """Another control plane."""
        return Clock(self._file, lambda: self.shown, lambda: self.steady, self._boot)

    def reboot(self) -> None:
        self.steady = 1.0
        self._boot.write_text("second\n")

    def without_boot_id(self) -> None:
        self._boot.unlink()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_any_jump_it_is_what_the_clock_says(machine: Machine) -> None:
    clock, began = machine.start(), machine.shown
    machine.passes(30)
    assert clock.since(began) == 30
    assert machine.start().since(began) == 30


@pytest.mark.parametrize("by", [3600.0, -3600.0, 5.0, -5.0])
def test_a_jump_is_not_taken_for_time_that_passed(machine: Machine, by: float) -> None:
    """Neither by the control plane that saw it, nor by the next, nor when it happened between the two."""
    clock, began = machine.start(), machine.shown
    machine.passes(4000)
    machine.shown += by
    clock.look()
    assert clock.since(began) == 4000
    machine.passes(4000)
    assert machine.start().since(began) == 8000
    machine.shown += by
    assert machine.start().since(began) == 8000


def test_what_began_between_two_jumps_is_measured_by_the_second_alone(machine: Machine) -> None:
    clock = machine.start()
    machine.shown += 3600
    clock.look()
    began = machine.shown
    machine.passes(10)
    machine.shown += 3600
    clock.look()
    assert clock.since(began) == 10


def test_what_the_clock_showed_twice_is_the_later(machine: Machine) -> None:
    """A limit may strike too late, and never too early."""
    clock, began = machine.start(), machine.shown + 3500
    machine.passes(3600)
    machine.shown -= 3600
    clock.look()
    machine.passes(3590)
    assert clock.since(began) == 90


def test_a_slow_correction_is_no_jump(machine: Machine) -> None:
    clock, began = machine.start(), machine.shown
    for _ in range(100):
        machine.passes(10)
        machine.shown += 0.05
        clock.look()
    assert clock.since(began) == pytest.approx(1005)
    machine.shown += 0.5
    assert machine.start().since(began) == pytest.approx(1005.5)


def test_a_boot_is_no_jump(machine: Machine) -> None:
    began = machine.shown
    machine.start()
    machine.passes(100)
    machine.reboot()
    assert machine.start().since(began) == 100
    machine.shown += 3600
    assert machine.start().since(began) == 100


def test_where_boots_cannot_be_told_apart_the_clock_is_believed(machine: Machine) -> None:
    began = machine.shown
    machine.without_boot_id()
    machine.start()
    machine.shown += 3600
    assert machine.start().since(began) == 3600


def test_a_file_that_cannot_be_read_or_written_ends_nothing(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("{nonsense")
    machine.start()
    nowhere = Clock(tmp_path / "no" / "folder", lambda: machine.shown, lambda: machine.steady, tmp_path / "boot_id")
    began = machine.shown
    machine.shown += 3600
    nowhere.look()
    assert nowhere.since(began) == 0


def test_what_began_after_the_clock_was_set_back_twice_began_just_now(machine: Machine) -> None:
    """It shows a time again that it has shown before, and the later one is meant."""
    clock = machine.start()
    for _ in range(2):
        machine.passes(60)
        machine.shown -= 3600
        clock.look()
    machine.passes(10)
    began = machine.shown
    machine.passes(20)
    assert clock.since(began) == 20
    assert machine.start().since(began) == 20


@pytest.mark.parametrize("by", [3600.0, -3600.0])
def test_what_began_before_it_was_noticed_that_the_clock_was_set_began_after_that(machine: Machine, by: float) -> None:
    clock = machine.start()
    machine.passes(60)
    clock.look()
    machine.passes(2)
    machine.shown += by
    machine.passes(3)
    began = machine.shown
    machine.passes(5)
    clock.look()
    machine.passes(20)
    assert clock.since(began) == 25
    assert machine.start().since(began) == 25


@pytest.mark.parametrize("by", [10.0, 3600.0])
def test_a_limit_that_begins_before_the_next_look_knows_that_the_clock_was_set_forward(
    machine: Machine, by: float
) -> None:
    """Else a deadline strikes at once when another attempt begins in that moment."""
    clock, began = machine.start(), machine.shown
    machine.passes(30)
    clock.look()
    machine.shown += by
    machine.passes(1)
    assert clock.since(began) == pytest.approx(31)

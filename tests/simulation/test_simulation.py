"""A slice of what scripts/simulate does for as long as one likes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.planted import faults, find

ROOT = Path(__file__).parents[2]

SLOW = bool(os.environ.get("TARMAC_SLOW"))


def simulate(*arguments: str) -> dict[str, Any]:
    """Its figures. In a process of its own, since time and chance are patched there."""
    environ = {**os.environ, "PYTHONPATH": "src", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.simulation", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=400)
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.timeout(400)
def test_the_control_plane_is_what_the_specification_says_and_no_client_is_told_what_cannot_be() -> None:
    """Two cores live some twenty seeds of each kind in that time; scripts/simulate --seeds 1000 lives all of them."""
    figures = simulate("--seconds", "300" if SLOW else "25")
    assert figures["problems"] == [], "\n".join(figures["problems"])
    assert figures["sequences"] >= 5
    assert figures["crashes"] > 0
    assert figures["clients: crashes"] > 0


@pytest.mark.timeout(400)
def test_a_seed_that_is_lived_twice_is_the_same_to_the_last_byte() -> None:
    figures = simulate("--seeds", "2", "--first", "500", "--twice")
    assert figures["problems"] == [], "\n".join(figures["problems"])


SAMPLE = [
    "a worker's late result is taken",
    "an abort that meets a run",
    "a record says a number beyond itself",
    "a key that comes with the name",
    "what is awaited is acknowledged before",
    "no loss counts",
    "of equal calls that are serialized",
]
"""Words of some faults that are found within a few seeds; scripts/simulate --planted tries all of them."""


@pytest.mark.timeout(400)
def test_planted_faults_are_found() -> None:
    figures = simulate("--planted", *([] if SLOW else SAMPLE))
    assert figures["missed"] == []
    assert figures["faults"] >= len(SAMPLE)


def test_each_planted_fault_fits_one_place_of_the_code() -> None:
    found = faults()
    assert len(found) >= 50
    assert len({fault.name for fault in found}) == len(found)
    for fault in found:
        find(fault)

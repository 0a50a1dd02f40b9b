"""The control plane is what docs/specification.py says on PostgreSQL, too; tests/simulation is about SQLite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.conftest import Place

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("place", ["postgres"], indirect=True)
async def test_a_sequence_of_operations_comes_to_the_same_on_postgresql(place: Place) -> None:
    environ = {**os.environ, "PYTHONPATH": "src", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "tests.simulation", "7", "--length", "50", "--database-url", place.url]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=230)  # noqa: ASYNC221
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert place.sql("select count(*) from actions")[0][0] > 10

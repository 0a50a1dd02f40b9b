"""The control plane's process: that it ends when its store fails it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FAIL = """
import contextlib, os
from tarmac import server
with contextlib.suppress(OSError):  # as an event loop goes on after a callback that failed
    server._fail(OSError("database or disk is full"), 1)
os._exit(7)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file on a full disk is needed: /dev/full")
def test_a_control_plane_whose_store_fails_it_ends_also_when_its_log_cannot_be_written() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", FAIL], stdout=subprocess.PIPE, stderr=full)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_control_plane_whose_store_fails_it_says_why() -> None:
    done = subprocess.run([sys.executable, "-c", FAIL], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the control plane ends: database or disk is full\n"

"""The agent asks its preload process whether it is ready, and never waits for the answer."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil

from flyte.wire import PoolSpec
from tarmac.agent.preload import Preload
from tests.platform_fixture import wait_for


def test_a_preload_that_imports_the_server_stack_is_passed_over_and_not_waited_for(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FLYTE_", "TARMAC_"))}
    pool = PoolSpec(id="p", name="env@v1", python=sys.executable, root=str(tmp_path))
    preload = Preload(env, tmp_path / "preload.log", "flyte.runtime.worker")
    preload.start()
    (process,) = (child for child in psutil.Process().children() if "flyte.runtime.preload" in child.cmdline())
    try:
        assert preload.suits(pool)
        os.kill(process.pid, signal.SIGSTOP)  # so that it cannot answer meanwhile
        wait_for(lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped")
        preload.warm()
        assert not preload.suits(pool)
        assert process.status() == psutil.STATUS_STOPPED, "it was told without an answer of that process"
    finally:
        os.kill(process.pid, signal.SIGCONT)
        preload.end()


def test_a_pool_that_only_says_what_the_preload_was_told_is_forked_from_it(tmp_path: Path) -> None:
    """Every pool has the system's certificates, like the preload process; one with others is started by itself."""
    env = {"PATH": os.environ["PATH"], "SSL_CERT_DIR": "/etc/ssl/certs"}
    preload = Preload(env, tmp_path / "preload.log", "flyte.runtime.worker")
    preload.start()
    try:
        for variables, suits in (
            ({}, True),
            ({"SSL_CERT_DIR": "/etc/ssl/certs", "ANYTHING": "else"}, True),
            ({"SSL_CERT_DIR": "/other"}, False),
            ({"PYTHONHASHSEED": "1"}, False),
        ):
            pool = PoolSpec(id="p", name="env@v1", python=sys.executable, root=str(tmp_path), env=variables)
            assert preload.suits(pool) is suits, variables
    finally:
        preload.end()

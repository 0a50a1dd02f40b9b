"""The certificate folder that makes HTTP clients cheap is given to processes, unless a setting says otherwise."""

from __future__ import annotations

import os

import pytest

from tests.platform_fixture import Platform, running

PROGRAM = """
import os
import flyte

env = flyte.TaskEnvironment(name="told")


@env.task
def certificates() -> str:
    return os.environ.get("SSL_CERT_DIR", "none")
"""


def told(platform: Platform) -> str:
    program = platform.write("told.py", PROGRAM)
    done = platform.cli("run", program, "certificates", timeout=60)
    assert done.code == 0, done.both
    return done.out


def test_processes_are_given_the_systems_certificates_unless_that_is_switched_off(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert os.path.isdir("/etc/ssl/certs")
    assert "/etc/ssl/certs" in told(platform) or "/usr/lib/ssl/certs" in told(platform)
    with running({"system_certificates": "false"}) as other:
        assert "none" in told(other)

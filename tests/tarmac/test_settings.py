"""Settings: a row each, from the environment, else settings.yaml, else the default."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from flyte.errors import InitializationError
from tarmac.settings import SETTINGS, load


def test_without_anything_said_every_setting_has_its_default(tmp_path: Path) -> None:
    settings = load(tmp_path, {})
    assert asdict(settings) == {row.name: row.default for row in SETTINGS}
    assert (settings.port, settings.host) == (30080, "127.0.0.1")


def test_the_file_beats_the_default_and_the_environment_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("port: 31000\nfsync: normal\ngrace: 2\n")
    settings = load(tmp_path, {"TARMAC_PORT": "32000", "PATH": "/bin"})
    assert (settings.port, settings.fsync, settings.grace) == (32000, "normal", 2.0)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("# nothing yet\n")
    assert load(tmp_path, {}) == load(tmp_path / "elsewhere", {})


def test_values_are_of_their_types_wherever_they_come_from(tmp_path: Path) -> None:
    environ = {f"TARMAC_{row.name.upper()}": str(row.default) for row in SETTINGS}
    assert load(tmp_path, environ) == load(tmp_path, {})


@pytest.mark.parametrize("name", ["port", "grace", "slots"])
def test_a_value_that_is_not_of_its_type_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(InitializationError, match=f"TARMAC_{name.upper()}.*'many'"):
        load(tmp_path, {f"TARMAC_{name.upper()}": "many"})
    (tmp_path / "settings.yaml").write_text(f"{name}: many\n")
    with pytest.raises(InitializationError, match=rf"settings\.yaml.*{name} is 'many'"):
        load(tmp_path, {})


def test_every_setting_is_explained_in_a_sentence() -> None:
    assert len({row.name for row in SETTINGS}) == len(SETTINGS)
    assert all(row.help.endswith(".") and row.name.islower() for row in SETTINGS)


def test_the_apps_ports_follow_the_front_door(tmp_path: Path) -> None:
    settings = load(tmp_path, {})
    assert settings.port_range() == range(30100, 30600)
    assert settings.port_range(65_500) == range(65_520, 65_536)


def test_the_apps_ports_can_be_given(tmp_path: Path) -> None:
    assert load(tmp_path, {"TARMAC_APP_PORTS": "40000-40009"}).port_range() == range(40_000, 40_010)
    for wrong in ("40000", "a-b", "-"):
        with pytest.raises(InitializationError, match="first-last"):
            load(tmp_path, {"TARMAC_APP_PORTS": wrong}).port_range()


def test_there_are_at_least_eight_slots_unless_less_is_asked_for(tmp_path: Path) -> None:
    assert load(tmp_path, {}).worker_slots() >= 8
    assert load(tmp_path, {"TARMAC_SLOTS": "1"}).worker_slots() == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("port: [1]", "port is '[1]', not a int"),
        ("port: 99999", "port is 99999; ports go up to 65535"),
        ("grace: nan", "grace is nan; it cannot be negative or without end"),
        ("grace: -1", "grace is -1; it cannot be negative or without end"),
        ("fsync: sometimes", "fsync is 'sometimes'; write one of full, normal"),
        ("prot: 1", "there is no setting 'prot'"),
        ("- port", "must hold lines like"),
        ("port: [", "is not valid YAML"),
        ("system_certificates: maybe", "system_certificates is 'maybe', not a bool"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(InitializationError) as refused:
        load(tmp_path, {})
    assert sentence in str(refused.value)


def test_an_empty_line_in_the_file_leaves_the_default(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("port:\nsystem_certificates: off\n")
    settings = load(tmp_path, {})
    assert (settings.port, settings.system_certificates) == (30080, False)


@pytest.mark.parametrize("ports", ["30100", "b-a", "200-100", "0-5", "60000-70000"])
def test_a_range_that_is_none_is_refused(tmp_path: Path, ports: str) -> None:
    with pytest.raises(InitializationError, match="write `first-last`"):
        load(tmp_path, {"TARMAC_APP_PORTS": ports}).port_range()

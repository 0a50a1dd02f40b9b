"""Where the platform is: the lookup order, each step of it, and every `init…`."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from flyte._session import config as _config
from flyte._session import find as _platform
from flyte._session import init as _init
from flyte._session import plan as _plan
from flyte._session import state as _state
from flyte.errors import InitializationError
from flyte.official import refuse_official
from tarmac.environments.overlay import INFO, METADATA_FILES
from tests.flyte.fake_platform import TOKEN, FakePlatform


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _endpoint(name: str) -> str:
    return f"admin:\n  endpoint: https://{name}.example\n"


@pytest.fixture
def running(fake: FakePlatform) -> Iterator[TextIO]:
    """The fake platform as the one of this machine; its lock, which it holds until that is closed."""
    home = _platform.home()
    _write(home / "token", TOKEN + "\n")
    _write(home / "platform.json", json.dumps({"endpoint": fake.endpoint, "pid": os.getpid()}))
    with _write(home / "supervisor.lock", "").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


# --- files


def test_files_are_found_in_flytes_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home, work = Path.home(), tmp_path / "work" / "sub"
    work.mkdir()
    monkeypatch.chdir(work)
    (tmp_path / "work" / ".git").mkdir()
    places = [
        work / "config.yaml",
        work / ".flyte" / "config.yaml",
        tmp_path / "work" / ".flyte" / "config.yaml",
        tmp_path / "uctl.yaml",
        tmp_path / "flytectl.yaml",
        home / ".union" / "config.yaml",
        home / ".flyte" / "config.yaml",
    ]
    monkeypatch.setenv("UCTL_CONFIG", str(places[3]))
    monkeypatch.setenv("FLYTECTL_CONFIG", str(places[4]))
    for place in places:
        _write(place, _endpoint("x"))
    found = []
    for place in places:
        found.append(_config.find())
        place.unlink()
    assert found == places
    assert _config.find() is None


def test_somebody_elses_config_yaml_is_passed_over() -> None:
    _write(Path("config.yaml"), "model:\n  layers: 3\n")
    own = _write(Path.home() / ".flyte" / "config.yaml", _endpoint("mine"))
    assert _config.find() == own


def test_every_key_of_a_file_is_read() -> None:
    path = _write(
        Path("mine.yaml"),
        "admin:\n  endpoint: dns:///flyte.example\n  api_key: k\n  insecure: false\n  insecureSkipVerify: true\n"
        "  caCertFilePath: ca.pem\n  authType: ExternalCommand\n  command: [print-key, -q]\n"
        "task: {org: o, project: p, domain: staging}\nimage: {builder: local, image_refs: {a: b}}\n",
    )
    config = _config.load(path)
    assert (config.endpoint, config.api_key, config.insecure, config.insecure_skip_verify) == (
        "dns:///flyte.example",
        "k",
        False,
        True,
    )
    assert (config.org, config.project, config.domain) == ("o", "p", "staging")
    assert (config.ca_cert_file_path, config.command, config.image_refs) == ("ca.pem", ("print-key", "-q"), {"a": "b"})
    assert config.source == path


def test_a_variable_is_stronger_than_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(Path("mine.yaml"), _endpoint("file") + "task:\n  project: file\n  domain: staging\n")
    monkeypatch.setenv("FLYTE_ADMIN_ENDPOINT", "https://env.example")
    monkeypatch.setenv("FLYTE_TASK_PROJECT", "env")
    config = _config.load(path)
    assert (config.endpoint, config.project, config.domain) == ("https://env.example", "env", "staging")


def test_variables_count_without_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("FLYTE_API_KEY", "k")
    _init.init_from_config(project="given")
    state = _state.current()
    assert (_state.client().endpoint, state.project, state.domain) == ("http://127.0.0.1:1", "given", "development")


def test_an_explicit_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InitializationError, match=r"no config file at .*nowhere.yaml") as caught:
        _init.init_from_config("nowhere.yaml", root_dir=tmp_path)
    assert caught.value.code == "ConfigFileNotFoundError"
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["admin: [", "- just\n- a list\n"])
def test_a_file_that_is_no_config_is_named(text: str) -> None:
    path = _write(Path("broken.yaml"), text)
    with pytest.raises(InitializationError, match=r"broken\.yaml"):
        _config.load(path)


@pytest.mark.parametrize(
    ("written", "insecure", "read"),
    [
        ("http://127.0.0.1:30080/", None, "http://127.0.0.1:30080"),
        ("dns:///flyte.example", None, "https://flyte.example"),
        ("flyte.example:8443", None, "https://flyte.example:8443"),
        ("flyte.example:80", True, "http://flyte.example:80"),
        ("localhost:30080", None, "http://localhost:30080"),
        ("unix:///run/api.sock", None, "unix:///run/api.sock"),
        ("/run/api.sock", None, "unix:///run/api.sock"),
    ],
)
def test_endpoints_may_be_written_as_flyte_does(written: str, insecure: bool | None, read: str) -> None:
    assert _config.normal_endpoint(written, insecure) == read


@pytest.mark.parametrize("written", ["ftp://x", "http://", "::"])
def test_what_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(InitializationError, match="is not the address of a platform"):
        _config.normal_endpoint(written)


# --- keys


def test_a_key_in_flytes_form_names_the_platform() -> None:
    key = base64.b64encode(b"https://flyte.example:8443:id:secret:None").decode()
    assert _config.read_api_key(key) == _config.ApiKey("secret", "https://flyte.example:8443")
    assert _config.read_api_key("tk_abc-_9") == _config.ApiKey("tk_abc-_9")


def test_init_from_api_key_takes_the_variable(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_API_KEY", base64.b64encode(f"{fake.endpoint}:id:{TOKEN}:None".encode()).decode())
    _init.init_from_api_key()
    assert asyncio.run(_state.client().me()).kind == "owner"


def test_init_from_api_key_without_a_key_says_so() -> None:
    with pytest.raises(InitializationError, match="FLYTE_API_KEY"):
        _init.init_from_api_key()


def test_a_command_may_print_the_key(fake: FakePlatform) -> None:
    _init.init(endpoint=fake.endpoint, command=[sys.executable, "-c", f"print('{TOKEN}')"])
    assert asyncio.run(_state.client().me()).kind == "owner"


# --- the platform of this machine


@pytest.mark.usefixtures("running")
def test_without_a_file_the_running_platform_is_used_and_named(
    fake: FakePlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    _init.init_from_config()
    assert asyncio.run(_state.client().me()).kind == "owner"
    assert capsys.readouterr().err == f"flyte: using the local platform at {fake.endpoint}\n"
    _init.init_from_config()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("running")
async def test_every_init_can_be_awaited() -> None:
    await _init.init_from_config.aio(project="p")
    assert (await _state.client().me()).kind == "owner"
    assert _state.current_project() == "p"


_UP = """
import fcntl, json, os, pathlib, subprocess, sys
home = pathlib.Path(os.environ["TARMAC_HOME"])
home.mkdir(exist_ok=True)
(home / "calls").write_text(" ".join(sys.argv[1:]))
if "FAIL" in os.environ:
    sys.exit("port 30080 is taken by process 7")
(home / "token").write_text(os.environ["FAKE_TOKEN"])
lock = (home / "supervisor.lock").open("w")
fcntl.flock(lock, fcntl.LOCK_EX)
quiet = subprocess.DEVNULL
holder = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()], stdin=quiet, stdout=quiet, stderr=quiet)
(home / "holder").write_text(str(holder.pid))
(home / "platform.json").write_text(json.dumps({"endpoint": os.environ["FAKE_ENDPOINT"], "pid": os.getppid()}))
"""


@pytest.fixture
def tarmac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `tarmac up` that only writes the files that the real one would."""
    package = tmp_path / "python" / "tarmac"
    _write(package / "__init__.py", "")
    _write(package / "__main__.py", _UP)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    yield package
    if (holder := _platform.home() / "holder").exists():
        os.kill(int(holder.read_text()), signal.SIGKILL)


def test_without_a_file_a_platform_is_started_and_named(
    fake: FakePlatform, tarmac: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_ENDPOINT", fake.endpoint)
    _init.init_from_config()
    assert (_platform.home() / "calls").read_text() == "up --quiet"
    assert asyncio.run(_state.client().me()).kind == "owner"
    said = capsys.readouterr().err
    assert said == f"flyte: started the local platform at {fake.endpoint} (stop it with 'flyte down')\n"


def test_a_state_file_of_a_dead_platform_does_not_count(
    fake: FakePlatform, tarmac: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(_platform.home() / "platform.json", json.dumps({"endpoint": "http://127.0.0.1:9", "pid": 2**22 + 1}))
    monkeypatch.setenv("FAKE_ENDPOINT", fake.endpoint)
    _init.init_from_config()
    assert _state.client().endpoint == fake.endpoint


def test_a_state_file_whose_pid_is_somebody_elses_by_now_does_not_count(
    fake: FakePlatform, tarmac: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a reboot."""
    _write(_platform.home() / "supervisor.lock", f"{os.getppid():<20}")
    _write(_platform.home() / "platform.json", json.dumps({"endpoint": "http://127.0.0.1:9", "pid": os.getppid()}))
    monkeypatch.setenv("FAKE_ENDPOINT", fake.endpoint)
    _init.init_from_config()
    assert _state.client().endpoint == fake.endpoint


def test_a_platform_that_is_there_and_does_not_answer_is_named_with_what_to_do() -> None:
    lock = _write(_platform.home() / "supervisor.lock", f"{os.getpid():<20}")
    _write(_platform.home() / "platform.json", json.dumps({"endpoint": "http://127.0.0.1:9", "pid": os.getpid()}))
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InitializationError, match=r"does not answer at http://127\.0\.0\.1:9; look into"):
            _platform.find(patience=0)
    assert _platform.find(patience=0) is None


def test_a_platform_that_does_not_start_says_why(tarmac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(InitializationError, match="could not be started: port 30080 is taken by process 7"):
        _init.init_from_config()
    assert not _state.is_initialized()


@pytest.mark.usefixtures("running")
def test_an_endpoint_of_this_machines_platform_needs_no_key(fake: FakePlatform) -> None:
    _init.init(endpoint=fake.endpoint.replace("127.0.0.1", "localhost"))
    assert asyncio.run(_state.client().me()).kind == "owner"


def test_the_owners_key_goes_to_no_stranger_who_has_the_port_of_a_platform_that_is_gone(
    fake: FakePlatform, running: TextIO
) -> None:
    running.close()
    assert _platform.find(patience=0) is None
    assert _platform.owner_token(fake.endpoint) is None


# --- whose files are trusted


def _commanding(endpoint: str, marker: Path) -> str:
    return f"admin:\n  endpoint: {endpoint}\n  authType: ExternalCommand\n  command: [touch, {marker}]\n"


@pytest.mark.parametrize("place", ["config.yaml", ".flyte/config.yaml"])
def test_a_file_found_in_the_folder_runs_no_command(fake: FakePlatform, tmp_path: Path, place: str) -> None:
    marker = tmp_path / "ran"
    file = _write(Path(place), _commanding(fake.endpoint, marker))
    with pytest.raises(InitializationError, match=r"runs the command 'touch .*FLYTE_TRUST_CONFIG=1"):
        _init.init_from_config()
    assert not marker.exists()
    _init.init_from_config(file)
    assert marker.exists()


def test_a_file_found_in_the_folder_is_not_sent_the_environments_key(
    fake: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(Path(".flyte/config.yaml"), f"admin:\n  endpoint: {fake.endpoint}\n")
    monkeypatch.setenv("FLYTE_API_KEY", TOKEN)
    with pytest.raises(InitializationError, match=f"sends your key to {fake.endpoint}"):
        _init.init_from_config()
    monkeypatch.setenv("FLYTE_TRUST_CONFIG", "1")
    _init.init_from_config()
    monkeypatch.delenv("FLYTE_TRUST_CONFIG")
    monkeypatch.setenv("FLYTE_ENDPOINT", fake.endpoint)
    _init.init_from_config()


def test_a_file_of_the_home_may_run_its_command(fake: FakePlatform, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    _write(Path.home() / ".flyte" / "config.yaml", _commanding(fake.endpoint, marker))
    _init.init_from_config()
    assert marker.exists()


# --- local mode, and processes of the platform


def test_init_alone_is_local_mode() -> None:
    _init.init(project="p")
    assert _state.current().mode == "local"
    assert not _state.is_control_plane_available()
    assert (_state.current_project(), _state.current_domain()) == ("p", "development")
    with pytest.raises(InitializationError, match="init_from_config"):
        _state.client()


def test_nothing_initialised_is_local_mode_without_a_project() -> None:
    assert _state.current().mode == "local"
    with pytest.raises(InitializationError, match="no project is set"):
        _state.current_project()


@pytest.fixture
def inside(fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> FakePlatform:
    """The environment of a process that the platform started."""
    for name, value in {
        "FLYTE_UNIT": "u1",
        "FLYTE_ENDPOINT": fake.endpoint,
        "FLYTE_API_KEY": TOKEN,
        "FLYTE_INTERNAL_EXECUTION_PROJECT": "theirs",
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": "staging",
    }.items():
        monkeypatch.setenv(name, value)
    return fake


async def test_init_in_cluster_takes_what_the_platform_gave(inside: FakePlatform) -> None:
    applied = await _init.init_in_cluster.aio()
    assert applied == {"endpoint": inside.endpoint, "project": "theirs", "domain": "staging"}
    assert TOKEN not in str(applied)
    assert (await _state.client().me()).kind == "owner"
    assert _init.init_in_cluster() == applied


@pytest.mark.parametrize(
    "call", [lambda: None, _init.init, lambda: _init.init_from_config("config-of-the-laptop.yaml")]
)
def test_in_a_process_of_the_platform_every_init_means_the_platform(inside: FakePlatform, call: object) -> None:
    assert callable(call)
    call()
    assert _state.client().endpoint == inside.endpoint
    assert _state.current_project() == "theirs"


@pytest.mark.usefixtures("running")
def test_init_in_cluster_off_the_platform_uses_the_local_one(fake: FakePlatform) -> None:
    assert _init.init_in_cluster()["endpoint"] == fake.endpoint
    (_platform.home() / "platform.json").unlink()
    assert _init.init_in_cluster()["endpoint"] == fake.endpoint, "the one in force is kept"


def test_init_in_cluster_off_the_platform_reads_the_config(fake: FakePlatform) -> None:
    _write(Path(".flyte/config.yaml"), f"admin: {{endpoint: '{fake.endpoint}', api_key: {TOKEN}}}")
    assert _init.init_in_cluster() == {"endpoint": fake.endpoint}
    assert asyncio.run(_state.client().me()).kind == "owner"


def test_using_puts_another_state_in_force_for_a_block() -> None:
    _init.init(project="p")
    with _state.using(_plan.State("local", project="q")):
        assert _state.current_project() == "q"
    assert _state.current_project() == "p"


# --- the root folder


def test_the_root_is_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    _init.init(root_dir=tmp_path / "home")
    assert _state.root_dir() == tmp_path / "home"
    assert str(tmp_path / "home") in sys.path


def test_the_root_is_the_scripts_folder_when_it_is_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    assert _state.root_dir() == Path.cwd(), "pytest is no script of the user's"
    monkeypatch.setattr(main, "__file__", str(tmp_path / "elsewhere" / "script.py"), raising=False)
    assert _state.root_dir() == tmp_path / "elsewhere"
    monkeypatch.setattr(main, "__file__", str(Path.cwd() / "sub" / "script.py"))
    assert _state.root_dir() == Path.cwd()


# --- the official distribution


def test_the_official_distribution_beside_ours_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _write(tmp_path / "flyte-2.12.1.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: flyte\nVersion: 2.12.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    refuse_official.cache_clear()
    try:
        with pytest.raises(
            InitializationError,
            match=r"pip uninstall flyte, and then, in a clone of this project, pip install --force-reinstall \.",
        ):
            _init.init()
    finally:
        refuse_official.cache_clear()


def test_the_flyte_that_an_environment_of_the_platform_names_is_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _write(tmp_path / INFO / "METADATA", METADATA_FILES["METADATA"])
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    refuse_official.cache_clear()
    try:
        _init.init()
    finally:
        refuse_official.cache_clear()

"""The platform's folder: private, short-pathed where it must be, and never half-written."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flyte.atomic import replace_file
from flyte.errors import InitializationError
from flyte.wire import AppId, AttemptRef
from tarmac.home import Home, find


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_preparing_makes_every_folder_and_lets_nobody_else_in(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    for folder in (home.path, home.blobs, home.code, home.logs, home.gateway, home.sockets):
        assert folder.is_dir()
    assert (mode(home.path), mode(home.sockets)) == (0o700, 0o700)
    assert (mode(home.token_file), mode(home.master_key_file)) == (0o600, 0o600)


def test_the_token_and_the_master_key_are_made_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    token, key = home.token(), home.master_key()
    home.prepare()
    assert (home.token(), home.master_key()) == (token, key)
    assert re.fullmatch(r"tk_[-\w]{43}", token)
    assert len(key) == 32


def test_many_that_prepare_at_once_agree_on_one_token(tmp_path: Path) -> None:
    homes = [Home(tmp_path / "home") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Home.prepare, homes))
    assert len({home.token() for home in homes}) == 1
    assert len({home.master_key() for home in homes}) == 1
    assert not [name for name in os.listdir(tmp_path / "home") if name.startswith(".")], "nothing is left behind"


def test_two_homes_have_different_keys(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in "ab"]
    for home in homes:
        home.prepare()
    assert homes[0].token() != homes[1].token()
    assert homes[0].master_key() != homes[1].master_key()


def test_a_folder_that_was_open_to_all_is_closed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.path.mkdir(mode=0o777)
    home.path.chmod(0o777)
    home.prepare()
    assert mode(home.path) == 0o700


@pytest.mark.skipif(os.getuid() != 0 and "CI" not in os.environ, reason="giving a folder away needs root")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    os.chown(home.path, 12345, -1)
    with pytest.raises(PermissionError, match="TARMAC_HOME"):
        home.prepare()
    assert not home.token_file.exists()


@pytest.mark.parametrize("length", [10, 70, 200])
def test_the_paths_of_sockets_are_short_however_long_the_homes_is(length: int) -> None:
    home = Home(Path("/tmp") / ("x" * length))
    sockets = [getattr(home, name) for name in dir(Home) if name.endswith("_socket")]
    assert len(sockets) >= 7
    assert len(set(sockets)) == len(sockets)
    assert max(len(str(path)) for path in sockets) < 100
    assert home.sockets == Home(home.path).sockets
    assert home.sockets != Home(Path("/tmp") / ("y" * length)).sockets


def test_a_home_with_a_long_name_has_its_sockets_in_a_private_folder_elsewhere(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 100))
    home.prepare()
    try:
        assert home.sockets.parent != home.path
        assert mode(home.sockets) == 0o700
    finally:
        shutil.rmtree(home.sockets)


def test_a_link_in_the_place_of_the_sockets_is_refused(tmp_path: Path) -> None:
    """In the folder for temporary files anybody may have put it there."""
    home = Home(tmp_path / ("x" * 100))
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    home.sockets.symlink_to(theirs)
    try:
        with pytest.raises(PermissionError, match="does not belong to you; remove it"):
            home.prepare()
        assert mode(theirs) == 0o755
        theirs.rmdir()
        with pytest.raises(PermissionError, match="does not belong to you; remove it"):
            home.prepare()
    finally:
        home.sockets.unlink()


def test_the_home_itself_may_be_a_link_of_its_owners(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    Home(tmp_path / "home").prepare()
    assert mode(tmp_path / "disk") == 0o700


def test_logs_have_their_places(tmp_path: Path) -> None:
    home = Home(tmp_path)
    paths = [
        home.action_log(AttemptRef("r1", "a0", 1)),
        home.action_log(AttemptRef("r1", "a0", 2)),
        home.replica_log(AppId("shop", "development", "web"), "r-1"),
        home.access_log(AppId("shop", "development", "web")),
        home.part_log("control"),
    ]
    assert len(set(paths)) == len(paths)
    assert all(home.logs in path.parents for path in paths)


def test_the_state_is_what_was_written_last_and_none_when_it_cannot_be_read(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.state() is None
    home.write_state(endpoint="http://127.0.0.1:30080", pid=7)
    assert home.state() == {"endpoint": "http://127.0.0.1:30080", "pid": 7}
    for text in ("{", "[]", ""):
        home.state_file.write_text(text)
        assert home.state() is None


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, "one")
    assert mode(path) == 0o600
    replace_file(path, "two", 0o644)
    assert (path.read_text(), mode(path), os.listdir(tmp_path)) == ("two", 0o644, ["file"])


def test_the_environment_says_where_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TARMAC_HOME", raising=False)
    assert find().path == tmp_path / ".tarmac"
    monkeypatch.setenv("TARMAC_HOME", "~/mine")
    assert find().path == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TARMAC_HOME", "here")
    assert find().path == tmp_path / "here"


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    replace_file(path, "one")
    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, "two")
    assert (path.read_text(), os.listdir(tmp_path)) == ("one", ["file"])


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "no hexadecimal at all"])
def test_a_master_key_that_is_none_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    home.prepare()
    home.master_key_file.write_text(text)
    for refused in (home.master_key, home.prepare):
        with pytest.raises(InitializationError, match=r"master\.key does not hold a key of 32 bytes .* remove it, "):
            refused()
    assert home.master_key_file.read_text() == text


def test_an_empty_token_is_refused_with_what_to_do(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    home.token_file.write_text("")
    with pytest.raises(InitializationError, match="token is empty; remove it"):
        home.prepare()


@pytest.mark.skipif(sys.platform != "linux", reason="which file an fd is of is read from /proc")
def test_keys_are_on_disk_before_they_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves a whole key, or none."""
    seen: list[tuple[str, str]] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(fd: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}")).rpartition(".")[0].removeprefix(".put-")
        seen.append(("flushed", name))
        fsync(fd)

    def noted_link(source: str, target: Path) -> None:
        assert Path(source).read_text()
        seen.append(("named", target.name))
        link(source, target)

    monkeypatch.setattr("os.fsync", noted_fsync)
    monkeypatch.setattr("os.link", noted_link)
    folder = tmp_path / "home"
    Home(folder).prepare()
    assert seen == [
        *[("flushed", "token"), ("named", "token"), ("flushed", "")],
        *[("flushed", "master.key"), ("named", "master.key"), ("flushed", "")],
    ]

"""Images become environments: made once, whole or not at all, and what uv says when it fails."""

from __future__ import annotations

import base64
import contextlib
import http.server
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from flyte.wire import EnvironmentSpec, ImageRequest, ImageSpec
from tarmac import process
from tarmac.environments import interpreters, overlay, uv
from tarmac.environments.build import News, Order, carried_out
from tarmac.environments.interpreters import Interpreter, choose
from tarmac.environments.place import Place
from tarmac.images import name_of, request_of
from tests.platform_fixture import wait_for
from tests.tarmac.wheelhouse import Wheelhouse


class Yard:
    """A machine's environments, and packages to make them of."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder / "images")
        self.house = Wheelhouse(folder / "house")
        self.log = folder / "build.log"

    def request(self, *packages: str, **more: Any) -> ImageRequest:
        kind = more.pop("kind", "task")
        more = {"options": self.house.options, "install_flyte": False, **more}
        return request_of(EnvironmentSpec(name="env", kind=kind, image=ImageSpec(packages=list(packages), **more)))

    def order(self, request: ImageRequest | None, **more: Any) -> Order:
        folder, log = str(self.place.path), str(self.log)
        return Order(folder=folder, timeout=60, log=log, request=request, parent=os.getpid(), **more)

    def build(self, *packages: str, force: bool = False, **more: Any) -> News:
        return carried_out(self.order(self.request(*packages, **more), force=force))

    def made(self, *packages: str, **more: Any) -> News:
        news = self.build(*packages, **more)
        assert news.error == "", f"{news.error}\n{self.log.read_text()}"
        return news

    def python(self, key: str, code: str) -> str:
        """What a program in the environment prints."""
        command = [str(self.place.python(key)), "-I", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.strip()

    def starts_builder(self, request: ImageRequest, file_size: int | None = None) -> subprocess.Popen[bytes]:
        """A builder as the agent starts it, which has its order; it may write files of `file_size` bytes."""
        limits = ("prlimit", f"--fsize={file_size}") if file_size is not None else ()
        command = (*limits, sys.executable, "-P", "-m", "tarmac.environments.build")
        builder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert builder.stdin is not None
        builder.stdin.write(msgspec.json.encode(self.order(request)))
        builder.stdin.close()
        return builder

    def unfinished(self) -> list[str]:
        return [path.name for path in (self.place.path / "making").iterdir()]

    def environments(self) -> list[str]:
        return [path.name for path in (self.place.path / "envs").iterdir()]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def yard(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.setenv("UV_CACHE_DIR", str(cache))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    return Yard(tmp_path)


@pytest.fixture
def patient_build(yard: Yard, tmp_path: Path) -> Callable[[], None]:
    """A package `patient` whose first build does not end; the function waits until that has begun."""
    begun, wheel = tmp_path / "begun", Wheelhouse(tmp_path / "built").wheel("patient")
    yard.house.source(
        "patient",
        [
            f"begun = pathlib.Path({str(begun)!r})",
            "if begun.exists():",
            f"    shutil.copy({str(wheel)!r}, wheel_directory)",
            f"    return {wheel.name!r}",
            "begun.write_text(str(os.getpid()))",
            "signal.pause()",
        ],
    )

    def wait() -> None:
        wait_for(lambda: begun.exists() and begun.read_text(), "the package's build has begun", 30)

    return wait


# ------------------------------------------------------------------------------------------------------ what is made


def test_an_environment_has_what_its_image_names_and_our_package(yard: Yard) -> None:
    yard.house.wheel("cow", "1.5", requires=["milk"])
    yard.house.wheel("milk", "3.0")
    news = yard.made("cow>=1")
    assert news.is_new
    assert yard.python(news.key, "import cow, milk; print(cow.VERSION, milk.VERSION)") == "1.5 3.0"
    assert yard.python(news.key, "import flyte; print(flyte.TaskEnvironment.__name__)") == "TaskEnvironment"
    assert yard.python(news.key, "import importlib.metadata as m; print(m.version('flyte'))") == overlay.VERSION
    known = yard.place.known(news.key)
    assert known is not None
    assert "cow==1.5" in known.lock
    assert "--hash=sha256:" in known.lock


def test_what_was_made_is_found_again_and_does_not_change_with_the_index(yard: Yard) -> None:
    yard.house.wheel("cow", "1.0")
    first = yard.made("cow")
    yard.house.wheel("cow", "2.0")
    again = yard.made("cow")
    assert (again.key, again.is_new) == (first.key, False)
    anew = yard.made("cow", force=True)
    assert anew.is_new
    assert yard.python(anew.key, "import cow; print(cow.VERSION)") == "2.0"
    assert yard.python(first.key, "import cow; print(cow.VERSION)") == "1.0"


def test_images_that_come_to_the_same_share_an_environment(yard: Yard) -> None:
    yard.house.wheel("cow", "1.0")
    yard.house.wheel("milk", "1.0")
    first = yard.made("cow", "milk")
    assert not yard.made("milk==1.0", "cow").is_new
    assert yard.made("milk==1.0", "cow", "flyte==2.0.9", "unionai-reuse>=0.1").key == first.key
    assert yard.environments() == [first.key]


@pytest.mark.parametrize("ours", ["flyte==2.0.9", "unionai_reuse", "tarmac"])
def test_our_names_are_never_installed_whoever_requires_them(yard: Yard, ours: str) -> None:
    yard.house.wheel("plugin", requires=[ours])
    news = yard.made("plugin", ours)
    known = yard.place.known(news.key)
    assert known is not None
    assert name_of(ours) not in [name_of(line) for line in known.lock.splitlines()]
    assert yard.python(news.key, "import flyte, plugin; print('both')") == "both"


def test_what_flytes_images_have_is_added_where_it_is_to_be_had(yard: Yard) -> None:
    yard.house.wheel("cow")
    yard.made("cow", install_flyte=True)
    request = yard.request("cow", install_flyte=True)
    asked = yard.place.asked(request.id)
    assert asked is not None
    assert "left out" in asked.notes[0]
    assert "pydantic" in asked.notes[0]


def test_beside_a_plugin_comes_what_it_leaves_to_flyte_to_bring(yard: Yard) -> None:
    yard.house.wheel("flyteplugins-cow", requires=["flyte"])
    for name in ("flyteidl2", "msgpack"):
        yard.house.wheel(name)
    known = yard.place.known(yard.made("flyteplugins-cow").key)
    assert known is not None
    assert {"flyteidl2", "msgpack"} <= {name_of(line) for line in known.lock.splitlines()}


def test_the_order_of_requirements_makes_no_other_request(yard: Yard) -> None:
    assert yard.request("a", "b").id == yard.request("b", "a", "flyte").id
    assert yard.request("a").id != yard.request("a", python=(3, 12)).id


def test_a_constraint_holds_for_what_others_need(yard: Yard) -> None:
    yard.house.wheel("cow", requires=["milk"])
    yard.house.wheel("milk", "1.0")
    yard.house.wheel("milk", "2.0")
    news = yard.made("cow", constraints=["milk<2"])
    assert yard.python(news.key, "import milk; print(milk.VERSION)") == "1.0"


def test_an_override_replaces_what_others_ask_for(yard: Yard) -> None:
    yard.house.wheel("goat", requires=["hay>=2"])
    yard.house.wheel("hay", "1.0")
    yard.house.wheel("hay", "2.0")
    news = yard.made("goat", overrides=["hay<2"])
    assert yard.python(news.key, "import hay; print(hay.VERSION)") == "1.0"


def test_a_changed_package_of_ours_is_found_by_environments_that_were_made_before(yard: Yard) -> None:
    yard.house.wheel("cow")
    news = yard.made("cow")
    pth = next(yard.place.environment(news.key).glob("lib/python3*/site-packages")) / overlay.PTH
    pth.write_text("/somewhere/else\n")
    overlay.put(yard.place.environment(news.key), yard.place.ours)
    assert yard.python(news.key, "import flyte; print('there')") == "there"


# ------------------------------------------------------------------------------------------------------ what goes wrong


def test_a_version_that_does_not_exist_is_said_in_uvs_words(yard: Yard) -> None:
    yard.house.wheel("cow", "1.0")
    news = yard.build("cow==99.0")
    assert "Because there is no version of cow==99.0 and you require cow==99.0" in news.error
    assert not news.is_passing
    assert (yard.unfinished(), yard.environments()) == ([], [])


def test_a_conflict_names_both_chains(yard: Yard) -> None:
    yard.house.wheel("cow", requires=["grass<2"])
    yard.house.wheel("goat", requires=["grass>=2"])
    for version in ("1.0", "2.0"):
        yard.house.wheel("grass", version)
    news = yard.build("cow", "goat")
    assert "cow" in news.error
    assert "goat" in news.error
    assert "unsatisfiable" in news.error


def test_a_package_that_nobody_has_is_named(yard: Yard) -> None:
    news = yard.build("no-such-thing")
    assert "no-such-thing was not found" in news.error


def test_a_package_that_wants_another_python_is_said(yard: Yard) -> None:
    yard.house.wheel("modern", python=">=3.99")
    assert "modern==1.0 requires Python >=3.99" in yard.build("modern").error


def test_a_failed_build_shows_its_last_lines_and_logs_all(yard: Yard) -> None:
    yard.house.source("broken", ["[print('line', n) for n in range(500)]", "raise SystemExit('no compiler is here')"])
    news = yard.build("broken")
    assert "no compiler is here" in news.error
    assert len(news.error.splitlines()) <= uv.TAIL_LINES + 1
    assert "line 7\n" in yard.log.read_text()
    assert (yard.unfinished(), yard.environments()) == ([], [])


def test_an_index_that_cannot_be_reached_may_be_there_another_time(yard: Yard) -> None:
    news = yard.build("cow", options=["--default-index", "http://127.0.0.1:9/simple"])
    assert news.is_passing
    assert "127.0.0.1:9" in news.error


def test_without_a_network_it_is_made_of_what_this_machine_has(yard: Yard) -> None:
    yard.house.wheel("cow")
    options = ["--default-index", "http://127.0.0.1:9/simple", "--find-links", str(yard.house.folder)]
    news = yard.made("cow", options=options)
    asked = yard.place.asked(yard.request("cow", options=options).id)
    assert asked is not None
    assert asked.notes == ["the index cannot be reached: it is made of what this machine has"]
    assert yard.python(news.key, "import cow; print(cow.VERSION)") == "1.0"


def test_a_package_that_crashes_a_worker_is_found_when_the_environment_is_made(yard: Yard) -> None:
    yard.house.wheel("msgspec", "99.0", source="raise RuntimeError('not this one')\n")
    news = yard.build("msgspec==99.0")
    assert "a worker's modules cannot be imported" in news.error
    assert "not this one" in news.error
    assert (yard.unfinished(), yard.environments()) == ([], [])


def test_a_killed_builder_takes_uv_along_and_leaves_nothing_that_is_used(
    yard: Yard, patient_build: Callable[[], None]
) -> None:
    builder = yard.starts_builder(yard.request("patient"))
    patient_build()
    children = psutil.Process(builder.pid).children()
    session = [one for one in psutil.process_iter() if os.getsid(one.pid) == builder.pid]
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert builder.stdout is not None
    builder.stdout.close()
    assert children
    assert psutil.wait_procs(children, timeout=20)[1] == []
    process.kill({one.pid for one in session if one.is_running()})  # as the agent does
    assert yard.environments() == []
    news = yard.made("patient")
    assert yard.python(news.key, "import patient; print(patient.VERSION)") == "1.0"
    assert yard.unfinished() == []


def test_files_that_cannot_be_written_fail_a_build_that_may_succeed_another_time(yard: Yard) -> None:
    yard.house.wheel("large", files={"large_data.txt": "x" * 30_000_000})
    request = yard.request("large")
    builder = yard.starts_builder(request, file_size=20_000_000)
    assert builder.stdout is not None
    with builder.stdout as said:
        last = msgspec.json.decode(said.readlines()[-1], type=News)
    builder.wait(30)
    assert last.is_passing, last.error
    assert "File size limit exceeded" in last.error or "too large" in last.error.lower(), last.error
    assert (yard.environments(), yard.unfinished()) == ([], [])
    assert yard.made("large").is_new


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A file system of that size at `folder`; False where this process may not mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    is_mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_fails_a_build_that_succeeds_when_there_is_room(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no small disk can be mounted, the test with the largest size of a file stands for it."""
    yard.house.wheel("cow", files={"cow_data.txt": "moo " * 4_000_000})
    (tmp_path / "images").mkdir()
    with small_disk(tmp_path / "images", "8m") as is_small:
        if is_small:
            monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "images" / "cache"))
            news = yard.build("cow")
            assert "No space left on device" in news.error, news.error
            assert news.is_passing
            assert yard.environments() == []
            assert yard.unfinished() == []
            assert subprocess.run(["mount", "-o", "remount,size=200m", str(tmp_path / "images")]).returncode == 0
        assert yard.made("cow").is_new


def test_two_builders_make_one_environment(yard: Yard) -> None:
    yard.house.wheel("cow")
    request, said = yard.request("cow"), []
    builders = [yard.starts_builder(request) for _ in range(2)]

    def hear(builder: subprocess.Popen[bytes]) -> None:
        assert builder.stdout is not None
        with builder.stdout as output:
            said.append(msgspec.json.decode(output.read().splitlines()[-1], type=News))

    threads = [threading.Thread(target=hear, args=(builder,)) for builder in builders]
    for thread in threads:
        thread.start()
    for thread, builder in zip(threads, builders, strict=True):
        thread.join()
        assert builder.wait() == 0
    assert [news.error for news in said] == ["", ""]
    assert sorted(news.is_new for news in said) == [False, True]
    assert yard.environments() == [said[0].key]


def test_an_environment_that_was_damaged_is_made_again_from_its_lock(yard: Yard) -> None:
    yard.house.wheel("cow")
    news = yard.made("cow")
    yard.place.python(news.key).unlink()
    assert yard.place.whole(news.key) is None
    again = carried_out(yard.order(None, key=news.key))
    assert (again.key, again.is_new, again.error) == (news.key, True, "")
    assert yard.python(news.key, "import cow; print(cow.VERSION)") == "1.0"


def test_an_environment_whose_interpreter_is_gone_says_so_and_is_made_anew_by_a_deployment(yard: Yard) -> None:
    yard.house.wheel("cow")
    news = yard.made("cow")
    known = yard.place.known(news.key)
    assert known is not None
    gone = Interpreter("/nowhere/python3.11", known.interpreter.version, known.interpreter.platform)
    yard.place.write_known(news.key, msgspec.structs.replace(known, interpreter=gone))
    yard.place.python(news.key).unlink()
    yard.place.python(news.key).symlink_to(gone.path)
    lost = carried_out(yard.order(None, key=news.key))
    assert "its interpreter /nowhere/python3.11 is not on this machine any more; deploy again" in lost.error
    assert yard.made("cow").is_new


# -------------------------------------------------------------------------------------------------------- interpreters


def python(version: tuple[int, int, int]) -> Interpreter:
    return Interpreter(f"/pythons/{version}", version, "linux-x86_64-glibc")


HERE = [python((3, 11, 7)), python((3, 13, 0)), python((3, 12, 4)), python((3, 12, 1)), python((3, 11, 2))]


@pytest.mark.parametrize(
    ("asked", "requires", "chosen", "note"),
    [
        (None, "", (3, 11, 7), ""),
        ((3, 11), "", (3, 11, 7), ""),
        ((3, 12), "", (3, 12, 4), ""),
        (None, ">=3.12", (3, 12, 4), ""),
        (None, "==3.13", (3, 13, 0), ""),
        (None, "==3.12.*", (3, 12, 4), ""),
        (None, ">=3.11", (3, 11, 7), ""),
        ((3, 14), "", (3, 13, 0), "asks for Python 3.14, which is not on this machine"),
        ((3, 10), "", (3, 11, 7), "asks for Python 3.10, which is not on this machine (there is 3.11, 3.12, 3.13)"),
        (None, ">=3.20", (3, 11, 7), "asks for Python >=3.20"),
    ],
)
def test_the_interpreter_is_of_the_version_that_is_asked_for_or_the_nearest(
    asked: tuple[int, int] | None, requires: str, chosen: tuple[int, int, int], note: str
) -> None:
    choice = choose(HERE, asked, requires)
    assert choice.interpreter.version == chosen
    assert note in choice.note
    assert bool(note) is bool(choice.note)


def test_the_interpreters_of_this_machine_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memo = tmp_path / "interpreters.json"
    found = interpreters.find(memo)
    assert found[0].version == sys.version_info[:3]
    monkeypatch.setattr(interpreters, "_ask", lambda path: pytest.fail(f"{path} was asked again"))
    assert interpreters.find(memo) == found


def test_what_is_not_an_interpreter_is_passed_over(tmp_path: Path) -> None:
    for name, text in (("python3.12", "#!/bin/sh\nexit 127\n"), ("python3.13", "#!/bin/sh\necho no\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    assert all(str(tmp_path) not in one.path for one in interpreters.find(None, environ))


# ---------------------------------------------------------------------------------------------------- options of uv


def test_uv_is_told_what_pip_is_told_of_indexes(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror/simple\nextra-index-url =\n  https://one/simple\n  https://two/simple\n"
    )
    environ = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    told = uv.environment({**environ, "PIP_FIND_LINKS": "/a /b"})
    assert told["UV_DEFAULT_INDEX"] == "https://mirror/simple"
    assert told["UV_INDEX"] == "https://one/simple https://two/simple"
    assert told["UV_FIND_LINKS"] == "/a,/b"
    assert told["UV_SYSTEM_CERTS"] == "1"
    assert "UV_DEFAULT_INDEX" not in uv.environment({**environ, "UV_INDEX": "https://mine/simple"})


def test_options_that_have_no_meaning_for_something_new_are_left_out() -> None:
    options = uv.in_uvs_words(["--system", "-i", "https://x/simple", "--pre", "--upgrade", "--no-binary", "numpy"])
    assert options == ["--index-url", "https://x/simple", "--prerelease=allow", "--no-binary", "numpy"]
    assert uv.sources(options) == ["--index-url", "https://x/simple"]


def test_an_index_that_names_a_secret_goes_into_a_file_where_uv_replaces_it() -> None:
    options = ["--index=https://$TOKEN@x", "--find-links", "/here", "--extra-index-url", "https://${TOKEN}@y/$OTHER"]
    assert uv.apart_from_secrets(options, ["TOKEN"]) == (
        ["--find-links", "/here"],
        ["--extra-index-url https://${TOKEN}@x", "--extra-index-url https://${TOKEN}@y/$OTHER"],
    )
    assert uv.in_braces("pkg @ git+https://$TOKEN@x/y?z=$OTHER", ["TOKEN"]) == "pkg @ git+https://${TOKEN}@x/y?z=$OTHER"


def test_a_secret_opens_an_index_and_is_neither_in_the_log_nor_on_a_command_line(yard: Yard, tmp_path: Path) -> None:
    with guarded_index(Wheelhouse(tmp_path / "far").wheel("guarded", "2.1"), "user", "s3cret-token") as url:
        options = ["--index-url", url.replace("//", "//user:$TOKEN@")]
        order = yard.order(yard.request("guarded", options=options), secrets={"TOKEN": "s3cret-token"})
        news = carried_out(order)
    assert news.error == ""
    assert yard.python(news.key, "import guarded; print(guarded.VERSION)") == "2.1"
    kept = [yard.log, *(file for file in yard.place.path.rglob("*") if file.suffix in {".txt", ".json"})]
    assert [file for file in kept if "s3cret-token" in file.read_text()] == []


def test_what_a_build_prints_of_a_secret_is_masked(yard: Yard) -> None:
    yard.house.source("talker", ["raise SystemExit(os.environ['TOKEN'])"])
    news = carried_out(yard.order(yard.request("talker"), secrets={"TOKEN": "s3cret-token"}))
    assert "${TOKEN}" in news.error
    assert "s3cret-token" not in news.error + yard.log.read_text()


@contextlib.contextmanager
def guarded_index(wheel: Path, user: str, password: str) -> Iterator[str]:
    """The URL of an index with one package, for those who know the password."""
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == expected
            if known and self.path.endswith(wheel.name):
                self._answer(200, wheel.read_bytes(), "application/octet-stream")
            elif known and self.path.startswith("/simple/guarded"):
                self._answer(200, f'<a href="/files/{wheel.name}">{wheel.name}</a>'.encode(), "text/html")
            else:
                self._answer(404 if known else 401, b"", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

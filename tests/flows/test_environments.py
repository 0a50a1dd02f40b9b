"""Images as environments, from `flyte deploy` and `flyte run` to the process that has the packages.

The packages come from a folder, so that no network is needed; another version of Python needs an index for our own.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from tarmac.environments import interpreters
from tests.platform_fixture import Platform, wait_for
from tests.tarmac.wheelhouse import Wheelhouse

PROGRAM = """
import dataclasses, os, subprocess, sys
import flyte

HOUSE = {house!r}

def image(*packages, **base):
    options = "--no-index --find-links " + HOUSE
    return flyte.Image.from_debian_base(**base).with_pip_packages(*packages, extra_args=options)

old = flyte.TaskEnvironment("old", image=image("cow<2"))
new = flyte.TaskEnvironment("new", image=image("cow>=2", "flyte==2.0.9"), depends_on=[old])


@dataclasses.dataclass
class Seen:
    version: str
    prefix: str


@old.task
async def look() -> Seen:
    import cow
    return Seen(cow.VERSION, sys.prefix)


@old.task
async def fail() -> None:
    raise ValueError("from the old one")


@new.task
async def compare() -> list[str]:
    import cow
    other = await look.override(short_name="elsewhere")()
    try:
        await fail()
    except ValueError as error:
        said = str(error)
    assert sys.prefix != other.prefix
    return [cow.VERSION, other.version, said]


@new.task
async def programs() -> list[str]:
    code = "import cow, flyte; print(cow.VERSION)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return [child.stdout.strip() or child.stderr, os.environ["VIRTUAL_ENV"], os.environ["PATH"].split(os.pathsep)[0]]
"""

BROKEN = """
import flyte

image = flyte.Image.from_debian_base().with_pip_packages("cow==99", extra_args="--no-index --find-links {house}")
env = flyte.TaskEnvironment("broken", image=image)


@env.task
async def never() -> None: ...
"""

APP = """
import flyte
import flyte.app

image = flyte.Image.from_debian_base().with_pip_packages("cow", extra_args="--no-index --find-links {house}")
app = flyte.app.AppEnvironment("cowapp", image=image, requires_auth=False)


@app.server
async def serve():
    import http.server, os, cow

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(cow.VERSION.encode())

    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
"""

OTHER = """
import sys
import time
import flyte

image = flyte.Image.from_debian_base(python_version={python}).with_pip_packages("typing-extensions")
one = flyte.TaskEnvironment("elder", image=image)
two = flyte.TaskEnvironment("here", depends_on=[one])


@one.task
async def version(numbers: list[int]) -> tuple[int, list[int]]:
    return sys.version_info.minor, sorted(numbers)


@two.task
async def ask() -> list[int]:
    minor, numbers = await version([3, 1, 2])
    return [minor, *numbers]
"""


MIXED = """
import http.server, os, sys
import flyte
import flyte.app


def image(*packages, **base):
    return flyte.Image.from_debian_base(**base).with_pip_packages(*packages, extra_args="--find-links {house}")


old = flyte.TaskEnvironment("first", image=image("pydantic<2", python_version={first}))
new = flyte.TaskEnvironment("second", image=image("pydantic>=2", python_version={second}), depends_on=[old])
app = flyte.app.AppEnvironment("mixedapp", image=image("cow"), requires_auth=False, depends_on=[new])


def seen() -> list[int]:
    import pydantic
    return [*sys.version_info[:2], int(pydantic.VERSION.split(".")[0])]


@old.task
async def of_first() -> list[int]:
    return seen()


@new.task
async def of_both() -> list[list[int]]:
    return [await of_first(), seen()]


@app.server
async def serve():
    import cow

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(cow.VERSION.encode())

    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    house = Wheelhouse(tmp_path_factory.mktemp("house"))
    house.wheel("cow", "1.0")
    house.wheel("cow", "2.0")
    return house


@pytest.fixture
def program(platform: Platform, house: Wheelhouse) -> Path:
    return platform.write("cows/cows.py", PROGRAM.format(house=str(house.folder)))


def test_two_tasks_of_a_run_have_two_versions_of_a_package(platform: Platform, program: Path) -> None:
    done = platform.cli("run", program, "compare", timeout=120)
    assert (done.code, json.loads(done.out or "null")) == (0, ["2.0", "1.0", "from the old one"]), done.both
    assert "new: building" in done.err
    again = platform.cli("run", program, "compare")
    assert (again.code, json.loads(again.out)) == (0, ["2.0", "1.0", "from the old one"]), again.both
    assert "building" not in again.err


def test_programs_that_a_task_starts_are_in_its_environment(platform: Platform, program: Path) -> None:
    done = platform.cli("run", program, "programs", timeout=120)
    assert done.code == 0, done.both
    version, prefix, first = json.loads(done.out)
    assert version == "2.0"
    assert Path(first).parent == Path(prefix)
    assert str(platform.home / "images" / "envs") in prefix


def test_a_package_that_cannot_be_had_fails_the_deployment_in_uvs_words(platform: Platform, house: Wheelhouse) -> None:
    program = platform.write("broken/broken.py", BROKEN.format(house=house.folder))
    done = platform.cli("deploy", program, timeout=120)
    assert done.code == 2, done.both
    assert "environment 'broken': No solution found" in done.err
    assert "Because there is no version of cow==99" in done.err
    assert "Traceback" not in done.err
    assert platform.cli("get", "task", "broken.never").code == 2


def test_an_app_has_its_own_environment(platform: Platform, house: Wheelhouse) -> None:
    program = platform.write("cowapp/cowapp.py", APP.format(house=house.folder))
    done = platform.cli("deploy", program, timeout=120)
    assert done.code == 0, done.both
    with platform.client() as http:
        assert http.get(platform.app_url("cowapp")).text == "2.0"


def test_a_task_runs_on_another_version_of_python_that_is_on_the_machine(platform: Platform) -> None:
    others = [one.minor for one in interpreters.find() if one.minor != sys.version_info[:2]]
    if not others:
        pytest.skip("there is no second version of Python on this machine")
    program = platform.write("other/other.py", OTHER.format(python=others[0]))
    done = platform.cli("run", program, "ask", timeout=180)
    if "no environment could be made" in done.err:
        pytest.skip("no index can be reached, and what a worker needs is not on this machine")
    assert (done.code, json.loads(done.out or "null")) == (0, [others[0][1], 1, 2, 3]), done.both


def test_two_versions_of_python_with_two_of_pydantic_and_an_app_are_one_program(
    platform: Platform, house: Wheelhouse
) -> None:
    """3.12 with pydantic 1, 3.13 with pydantic 2, an app on its own; where one is not here, the nearest."""
    wanted, here = ((3, 12), (3, 13)), interpreters.find()
    chosen = [interpreters.choose(here, minor) for minor in wanted]
    source = MIXED.format(house=house.folder, first=wanted[0], second=wanted[1])
    program = platform.write("mixed/mixed.py", source)
    deployed = platform.cli("deploy", program, timeout=240)
    assert deployed.code == 0, deployed.both
    for choice in chosen:
        assert choice.note in deployed.err
    done = platform.cli("run", program, "of_both", timeout=120)
    expected = [[*one.interpreter.minor, pydantic] for one, pydantic in zip(chosen, (1, 2), strict=True)]
    assert (done.code, json.loads(done.out or "null")) == (0, expected), done.both
    with platform.client() as http:
        assert http.get(platform.app_url("mixedapp")).text == "2.0"


def test_an_image_that_names_no_package_runs_on_the_platforms_python_whatever_version_it_names(
    platform: Platform,
) -> None:
    program = platform.write(
        "bare/bare.py", OTHER.replace('.with_pip_packages("typing-extensions")', "").format(python=(3, 99))
    )
    done = platform.cli("run", program, "ask")
    assert (done.code, json.loads(done.out or "null")) == (0, [sys.version_info.minor, 1, 2, 3]), done.both
    assert "environment 'elder' asks for Python 3.99; it runs on 3." in done.err


def test_a_version_of_python_that_is_nowhere_is_the_nearest_and_said(platform: Platform) -> None:
    program = platform.write("nowhere/nowhere.py", OTHER.format(python=(3, 99)))
    done = platform.cli("run", program, "ask", timeout=180)
    assert done.code == 0, done.both
    assert "asks for Python 3.99, which is not on this machine" in done.err


# ------------------------------------------------------------------------------------------------- seeing and managing

TWO = """
import flyte

OPTIONS = "--no-index --find-links {house}"
base = flyte.Image.from_debian_base()
kept = flyte.TaskEnvironment("kept", image=base.with_pip_packages("cow<2", "goat", extra_args=OPTIONS))
plain = flyte.TaskEnvironment("plain", depends_on=[kept])


@kept.task
async def milk() -> str:
    import goat
    return goat.VERSION


@plain.task
async def nothing() -> None: ...
"""


def test_an_image_is_built_shown_and_pruned_without_a_deployment(platform: Platform, tmp_path: Path) -> None:
    house = Wheelhouse(tmp_path / "house")
    house.wheel("cow", "1.0")
    house.wheel("goat", "1.0")
    program = platform.write("two/two.py", TWO.format(house=house.folder))
    built = platform.cli("build", program, "plain", "-o", "json", timeout=120)
    assert built.code == 0, built.both
    states = {each["environment"]: each for each in json.loads(built.out)}
    assert (states["plain"]["state"], states["kept"]["state"]) == ("own", "ready")
    image = states["kept"]["image"]
    shown = platform.cli("images", "show", image["id"][:10])
    assert {"cow==1.0", "goat==1.0"} <= set(shown.out.split()), shown.both
    assert "uv pip sync" in platform.cli("images", "log", image["id"]).out
    folder = Path(image["path"]).parent.parent

    house.wheel("goat", "2.0")
    run = platform.cli("run", program, "milk", timeout=120)
    assert (run.code, run.out) == (0, '"1.0"\n'), run.both
    forced = platform.cli("build", program, "kept", "--force", timeout=120)
    assert forced.code == 0, forced.both
    run = platform.cli("run", program, "milk", timeout=120)
    assert (run.code, run.out) == (0, '"2.0"\n'), run.both
    assert "goat==2.0" in platform.cli("get", "task", "kept.milk").out

    assert platform.cli("images", "prune").code == 0
    assert folder.exists(), "what was used lately stays"
    listed = json.loads(platform.cli("images", "list", "-o", "json").out)
    assert [record["environments"] for record in listed if record["id"] == image["id"]] == [
        ["flytesnacks/development/kept"]
    ]


def built(platform: Platform, program: Path) -> Path:
    """The folder of the environment that `flyte build` makes for a program."""
    told = json.loads(platform.cli("build", program, "-o", "json", timeout=120).out)
    return Path(next(each["image"]["path"] for each in told if each["state"] == "ready")).parent.parent


def test_an_environment_that_nothing_names_is_removed_and_made_again_when_it_is_needed(
    platform: Platform, tmp_path: Path
) -> None:
    house = Wheelhouse(tmp_path / "house")
    house.wheel("cow", "1.0")
    house.wheel("goat", "1.0")
    program = platform.write("pruned/pruned.py", TWO.format(house=house.folder).replace('"kept"', '"pruned"'))
    folder = built(platform, program)
    pruned = platform.cli("images", "prune", "--all")
    assert pruned.code == 0, pruned.both
    wait_for(lambda: not folder.exists(), "the environment is removed", 10)
    run = platform.cli("run", program, "milk", timeout=120)
    assert (run.code, run.out) == (0, '"1.0"\n'), run.both


def test_an_image_that_cannot_be_built_is_exit_code_2(platform: Platform, house: Wheelhouse) -> None:
    program = platform.write("unbuilt/unbuilt.py", BROKEN.format(house=house.folder))
    built = platform.cli("build", program, timeout=120)
    assert built.code == 2, built.both
    assert "there is no version of cow==99" in built.err


def test_an_environment_that_was_removed_behind_the_platforms_back_is_made_again(
    platform: Platform, tmp_path: Path
) -> None:
    house = Wheelhouse(tmp_path / "house")
    house.wheel("cow", "1.0")
    house.wheel("goat", "3.0")
    program = platform.write("behind/behind.py", TWO.format(house=house.folder).replace('"kept"', '"behind"'))
    folder = built(platform, program)
    shutil.rmtree(folder)
    run = platform.cli("run", program, "milk", timeout=120)
    assert (run.code, run.out) == (0, '"3.0"\n'), run.both
    assert folder.exists()


def test_new_code_of_an_environment_in_use_is_forked_from_its_own_preload_process(
    fresh_platform: Platform, house: Wheelhouse
) -> None:
    """On a platform of its own: only the first environments in use have preload processes."""
    program = fresh_platform.write("warm/warm.py", WARM.format(house=house.folder, answer=1))
    first = fresh_platform.cli("run", program, "parent", timeout=120)
    assert first.code == 0, first.both
    python = json.loads(first.out)[1]
    key = Path(python).parent.parent.name

    def preload() -> list[int]:
        words = (key, "flyte.runtime.preload")
        return [pid for pid, command in fresh_platform.commands().items() if all(word in command for word in words)]

    wait_for(preload, "there is a preload process in the environment", 20)

    def forked() -> bool:
        program.write_text(WARM.format(house=house.folder, answer=time.time()))
        again = fresh_platform.cli("run", program, "parent", timeout=120)
        assert again.code == 0, again.both
        return json.loads(again.out)[0] in preload()

    wait_for(forked, "new code's fork server is a child of the preload process", 30)


WARM = """
import os, sys
import flyte

image = flyte.Image.from_debian_base().with_pip_packages("cow", extra_args="--no-index --find-links {house}")
env = flyte.TaskEnvironment("warmed", image=image)
ANSWER = {answer}


def parent_of(pid: int) -> int:
    with open(f"/proc/{{pid}}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


@env.task
async def parent() -> tuple[int, str]:
    import cow
    return parent_of(parent_of(os.getpid())), sys.executable
"""


def test_the_image_of_an_app_is_built_too(platform: Platform, house: Wheelhouse) -> None:
    program = platform.write("cowapp2/cowapp2.py", APP.format(house=house.folder))
    built = platform.cli("build", program, "-o", "json", timeout=120)
    assert built.code == 0, built.both
    assert [each["state"] for each in json.loads(built.out)] == ["ready"]

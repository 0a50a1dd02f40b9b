"""Deploying: the closure, one plan, one bundle; what is sent, and what is said when it cannot be."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte import wire
from flyte._session import init as _init
from flyte._ship import deploy as _deploy
from flyte.errors import CodeBundleError, DeploymentError, InitializationError, InvalidInputError
from tests.flyte.conftest import Project
from tests.flyte.fake_platform import FakePlatform

PROGRAM = """
    import flyte
    from flyte.app import AppEnvironment

    app = AppEnvironment(name="page", args="python page.py --port $PORT", include=["data/*.txt"])
    low = flyte.TaskEnvironment(name="low")
    env = flyte.TaskEnvironment(name="env", depends_on=[app, low])

    @low.task
    def helper(x: int) -> int:
        return x

    @env.task
    async def add_one(x: int, y: str = "a") -> int:
        return x + 1
"""


@pytest.fixture
def program(project: Project) -> Any:
    project.write("page.py", "import lib.words\n")
    project.write("lib/words.py", "")
    project.write("data/a.txt", "a")
    project.write("unused.py", "")
    return project.load(PROGRAM)


def test_everything_that_is_needed_is_deployed_in_one_request(connected: FakePlatform, program: Any) -> None:
    (deployment,) = flyte.deploy(program.env)
    (request,) = connected.requests
    assert [spec.name for spec in request.tasks] == ["low.helper", "env.add_one"]
    assert [spec.entry for spec in request.tasks] == ["program:helper", "program:add_one"]
    assert [spec.name for spec in request.apps] == ["page"]
    assert request.order == {"page": [], "low": [], "env": ["page", "low"]}
    with tarfile.open(fileobj=BytesIO(connected.bundles[request.bundle or ""])) as archive:
        assert archive.getnames() == ["data/a.txt", "lib/words.py", "page.py", "program.py"]
    assert list(deployment.envs) == ["page", "low", "env"]
    assert deployment.version == request.version
    assert deployment.record is not None


def test_deploying_again_sends_no_code_and_has_the_same_version(connected: FakePlatform, program: Any) -> None:
    first, second = flyte.deploy(program.env), flyte.deploy(program.env)
    assert first[0].version == second[0].version
    puts = [path for path in connected.count() if path.startswith("PUT /v1/bundles/")]
    assert [connected.count()[path] for path in puts] == [1]


def test_other_code_or_other_declarations_make_another_version(connected: FakePlatform, project: Project) -> None:
    text = """
        import flyte
        env = flyte.TaskEnvironment(name="env", env_vars={"A": "1"})
        @env.task
        def f() -> int:
            return 1
    """
    one = project.load(text, "one")
    version = _deploy.plan([one.env]).request.version
    one.env.env_vars = {"A": "2"}
    changed = _deploy.plan([one.env]).request.version
    one.env.env_vars = {"A": "1"}
    assert _deploy.plan([one.env]).request.version == version
    project.write("one.py", text.replace("return 1", "return 2 "))
    assert len({version, changed, _deploy.plan([one.env]).request.version}) == 3


def test_a_version_of_ones_own_is_kept(connected: FakePlatform, program: Any) -> None:
    assert flyte.deploy(program.env, version="v7")[0].version == "v7"
    assert connected.requests[0].version == "v7"


async def test_deploy_can_be_awaited_and_tells_of_its_progress(connected: FakePlatform, program: Any) -> None:
    told: list[wire.Deployment] = []
    await flyte.deploy.aio(program.env, on_progress=told.append)
    assert [record.phase.value for record in told][-1] == "succeeded"
    assert [record.seq for record in told] == sorted({record.seq for record in told})


def test_a_dry_run_needs_no_platform(program: Any) -> None:
    (deployment,) = flyte.deploy(program.env, dry_run=True)
    assert deployment.record is None
    assert "env.add_one" in deployment.summary_repr()


def test_without_a_platform_deploy_says_how_to_get_one(program: Any) -> None:
    with pytest.raises(InitializationError, match=r"flyte\.init_from_config\(\)"):
        flyte.deploy(program.env)


def test_a_deployment_shows_itself(connected: FakePlatform, program: Any) -> None:
    (deployment,) = flyte.deploy(program.env, version="v1")
    assert deployment.summary_repr() == (
        "Deployment(version=v1, page: app (v1); low: tasks [low.helper (v1)]; env: tasks [env.add_one (v1)])"
    )
    assert [dict(row)["name"] for row in deployment.table_repr()] == ["page", "low.helper", "env.add_one"]
    assert str(deployment.table_repr()).splitlines()[0].split() == ["type", "name", "version"]
    assert [dict(row)["environment"] for row in deployment.env_repr()] == ["page", "low", "env"]


def test_each_environment_given_gets_its_own_deployment(connected: FakePlatform, program: Any) -> None:
    deployments = flyte.deploy(program.low, program.env)
    assert [list(deployment.envs) for deployment in deployments] == [["low"], ["page", "low", "env"]]
    assert len(connected.requests) == 1


# --- what is refused


def test_a_failed_deployment_is_raised_with_the_platforms_reason(connected: FakePlatform, program: Any) -> None:
    connected.deployment_error = wire.ErrorInfo(
        code="DeploymentError", message="page did not become ready: ModuleNotFoundError: No module named 'streamlit'"
    )
    with pytest.raises(DeploymentError, match="No module named 'streamlit'"):
        flyte.deploy(program.env)


def test_a_cycle_is_refused_with_the_cycle_in_it() -> None:
    first, second, third = (flyte.TaskEnvironment(name=name) for name in "abc")
    first.add_dependency(second)
    second.add_dependency(third)
    third.add_dependency(first)
    with pytest.raises(DeploymentError, match="a → b → c → a"):
        flyte.deploy(first, dry_run=True)
    outside = flyte.TaskEnvironment(name="outside", depends_on=[second])
    with pytest.raises(DeploymentError, match="b → c → a → b"):
        flyte.deploy(outside, dry_run=True)


def test_two_environments_of_one_name_are_refused() -> None:
    one, two = (flyte.TaskEnvironment(name="same") for _ in range(2))
    with pytest.raises(ValueError, match=r"two environments are called 'same': one in .*test_deploy\.py"):
        flyte.deploy(one, two, dry_run=True)
    with pytest.raises(ValueError, match="two environments are called 'same'"):
        flyte.deploy(flyte.TaskEnvironment(name="top", depends_on=[one, two]), dry_run=True)


def test_tasks_of_another_environment_bring_it_along(connected: FakePlatform, program: Any) -> None:
    both = flyte.TaskEnvironment.from_task("both", program.helper)
    flyte.deploy(both)
    assert connected.requests[0].order == {"low": [], "both": ["low"]}
    assert [spec.name for spec in connected.requests[0].tasks] == ["low.helper"]


def test_what_is_no_environment_is_refused(program: Any) -> None:
    with pytest.raises(TypeError, match="takes environments"):
        flyte.deploy(program.add_one, dry_run=True)
    with pytest.raises(ValueError, match="at least one"):
        flyte.deploy(dry_run=True)


def test_interactive_code_is_refused(program: Any) -> None:
    with pytest.raises(NotImplementedError):
        flyte.deploy(program.env, interactive_mode=True, dry_run=True)


def test_code_outside_the_root_is_refused_with_both_places(project: Project, tmp_path: Path) -> None:
    program = project.load("import flyte\nenv = flyte.TaskEnvironment(name='e')\n@env.task\ndef f() -> None: ...\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.py").touch()
    _init.init(root_dir=tmp_path / "other")
    with pytest.raises(CodeBundleError, match=r"program.*not below .*other|no code to ship below .*other"):
        flyte.deploy(program.env, dry_run=True)


def test_an_include_that_means_nothing_is_refused(project: Project) -> None:
    program = project.load("import flyte\nenv = flyte.TaskEnvironment(name='e', include=['no/*.csv'])\n")
    with pytest.raises(CodeBundleError, match=r"no/\*\.csv"):
        flyte.deploy(program.env, dry_run=True)


def test_no_code_needs_a_version(connected: FakePlatform, program: Any) -> None:
    with pytest.raises(InvalidInputError, match="pass version="):
        flyte.deploy(program.low, copy_style="none")
    flyte.deploy(program.low, copy_style="none", version="v1")
    assert (connected.requests[0].bundle, connected.requests[0].root) == (None, str(Path.cwd()))
    assert connected.bundles == {}


def test_images_have_names() -> None:
    image = flyte.Image.from_debian_base(name="mine")
    assert flyte.build(image).uri == image.uri
    assert flyte.build_images(flyte.TaskEnvironment(name="e", image=image)) == {"e": image.uri}

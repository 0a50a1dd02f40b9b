"""Environments: names, dependencies, clones, and their part of the spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte import wire
from flyte._declare.environment import registry


@pytest.mark.parametrize("name", ["a", "my-env", "my_env", "env2", "a-b_c"])
def test_good_names_are_taken(name: str) -> None:
    assert flyte.TaskEnvironment(name).name == name


@pytest.mark.parametrize("name", ["", "My-Env", "my env", "-env", "env-", "a--b", "a.b", "ä", None, 3])
def test_other_names_are_refused_with_the_rule(name: Any) -> None:
    with pytest.raises(ValueError, match="must be in snake_case or kebab-case"):
        flyte.TaskEnvironment(name)


def test_the_spec_holds_what_was_declared() -> None:
    other = flyte.TaskEnvironment("other")
    env = flyte.TaskEnvironment(
        "env",
        depends_on=[other],
        description="d",
        secrets="api-key",
        env_vars={"A": "1"},
        resources=flyte.Resources(cpu=1),
        image=flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("httpx"),
        reusable=flyte.ReusePolicy(replicas=1),
    )
    assert env.spec(Path.cwd()) == wire.EnvironmentSpec(
        name="env",
        kind="task",
        image=wire.ImageSpec(python=(3, 12), packages=["httpx"]),
        resources=wire.ResourcesSpec(cpu=1),
        env_vars={"A": "1"},
        secrets=[wire.SecretSpec(key="api-key", env="API_KEY")],
        depends_on=["other"],
        reuse=wire.ReuseSpec(min_replicas=1, max_replicas=1),
        description="d",
    )


def test_a_long_description_is_cut() -> None:
    description = flyte.TaskEnvironment("env", description="x" * 300).description
    assert description is not None
    assert len(description) == 255


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": 123}, "Expected image to be of type str or Image, got <class 'int'>"),
        ({"secrets": 123}, "Expected secrets to be of type SecretRequest, got <class 'int'>"),
        ({"depends_on": [123]}, r"Expected depends_on to be of type List\[Environment\], got <class 'int'>"),
        ({"resources": 123}, "Expected resources to be of type Resources, got <class 'int'>"),
        ({"env_vars": 123}, r"Expected env_vars to be of type Dict\[str, str\], got <class 'int'>"),
        ({"env_vars": {"A": 1}}, r"Expected env_vars to be of type Dict\[str, str\], got <class 'int'>"),
        ({"cache": 123}, "Expected cache to be of type str or Cache, got <class 'int'>"),
        ({"reusable": 123}, "Expected reusable to be of type ReusePolicy, got <class 'int'>"),
    ],
)
def test_fields_of_the_wrong_type_are_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        flyte.TaskEnvironment("env", **fields)


def test_dependencies_are_added_once_and_never_on_itself() -> None:
    env, other = flyte.TaskEnvironment("env"), flyte.TaskEnvironment("other")
    env.add_dependency(other, other)
    assert env.depends_on == [other]
    with pytest.raises(ValueError, match="cannot depend on itself"):
        env.add_dependency(env)
    with pytest.raises(TypeError, match="Expected Environment, got <class 'int'>"):
        env.add_dependency(123)  # type: ignore[arg-type]


def test_a_list_that_is_shared_is_not_changed() -> None:
    shared: list[flyte.Environment] = [flyte.TaskEnvironment("one")]
    env = flyte.TaskEnvironment("env", depends_on=shared)
    env.add_dependency(flyte.TaskEnvironment("two"))
    assert len(shared) == 1
    assert len(env.clone_with("clone").depends_on) == 2


def test_a_clone_changes_what_it_is_told_and_has_no_tasks() -> None:
    env = flyte.TaskEnvironment("env", image="img", resources=flyte.Resources(cpu=1), cache="auto")

    @env.task
    def one(x: int) -> int:
        return x

    clone = env.clone_with("clone", image="other", reusable=flyte.ReusePolicy())
    assert (clone.name, clone.image, clone.resources, clone.cache) == ("clone", "other", env.resources, "auto")
    assert clone.tasks == {}
    assert list(env.tasks) == ["env.one"]
    with pytest.raises(TypeError, match="no field 'imagee'"):
        env.clone_with("clone", imagee="x")


def test_every_environment_is_registered_with_its_place() -> None:
    env = flyte.TaskEnvironment("registered")
    assert registry()[-1] is env
    assert env.declared_in == Path(__file__)
    assert env.module == __name__


def test_files_to_include_are_found_beside_the_declaring_file() -> None:
    env = flyte.TaskEnvironment("env", include=["test_environment.py", "test_i*.py"])
    names = {path.name for path in env.include_files()}
    assert {"test_environment.py", "test_interface.py", "test_import.py"} <= names
    with pytest.raises(FileNotFoundError, match=r"include='nothing\.txt' matches nothing"):
        flyte.TaskEnvironment("env", include=["nothing.txt"]).include_files()


def test_tasks_of_others_make_an_environment() -> None:
    env = flyte.TaskEnvironment("env", image="img")

    @env.task
    def one(x: int) -> int:
        return x

    made = flyte.TaskEnvironment.from_task("made", one)
    assert made.image == "img"
    assert list(made.tasks.values()) == [one]
    other = flyte.TaskEnvironment("other", image="img2").task(lambda_task)
    with pytest.raises(ValueError, match="different images"):
        flyte.TaskEnvironment.from_task("made", one, other)
    with pytest.raises(ValueError, match="at least one"):
        flyte.TaskEnvironment.from_task("made")


def lambda_task(x: int) -> int:
    return x

"""Which interpreter runs an environment, and what is said where it does not have what the image names."""

from __future__ import annotations

import sys

import pytest

from flyte.errors import ImageBuildError
from flyte.wire import EnvironmentSpec, ImageSpec
from tarmac.images import environment_of

INSTALLED = {"rich": "13.0", "idna": "3.4"}


def environment(*packages: str) -> EnvironmentSpec:
    return EnvironmentSpec(name="env", kind="task", image=ImageSpec(packages=list(packages)))


def test_what_is_installed_satisfies_an_image() -> None:
    assert environment_of(environment("rich>=12", "idna"), INSTALLED.get).python == sys.executable


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(ImageBuildError, match=r"needs idna>=3.10, numpy, .* install 'idna>=3.10' 'numpy'$"):
        environment_of(environment("rich", "idna>=3.10", "numpy"), INSTALLED.get)


@pytest.mark.parametrize(
    "ours",
    ["flyte", "flyte==2.12.1", "flyte[sandbox]>=2.0.0b35", "unionai-reuse", "unionai_reuse>=0.1.9", "Flyte<3"],
)
def test_the_distributions_whose_place_is_ours_are_never_missing(ours: str) -> None:
    assert environment_of(environment("rich", ours), INSTALLED.get).python == sys.executable


@pytest.mark.parametrize("other", ["flyteplugins-spark", "flytekit", "flyteidl2"])
def test_other_distributions_of_flyte_are(other: str) -> None:
    with pytest.raises(ImageBuildError, match=other):
        environment_of(environment(other), INSTALLED.get)


def test_what_is_no_requirement_is_said() -> None:
    with pytest.raises(ImageBuildError, match="'a b c', which is not a valid requirement"):
        environment_of(environment("a b c"), INSTALLED.get)


def test_another_python_is_a_warning() -> None:
    wanted = EnvironmentSpec(name="env", kind="task", image=ImageSpec(python=(3, 99)))
    assert environment_of(wanted).warnings[0].startswith("environment 'env' asks for Python 3.99; it runs on 3.")

"""Whether the platform's own Python has what an image names, and what is said where it does not."""

from __future__ import annotations

import sys

import pytest

from flyte.errors import ImageBuildError
from flyte.wire import EnvironmentSpec, ImageSpec
from tarmac.images import (
    another_python,
    has_wanted_python,
    missing_packages,
    name_of,
    refusal,
    request_of,
)

INSTALLED = {"rich": "13.0", "idna": "3.4"}


def missing(*packages: str) -> list[str]:
    return missing_packages(ImageSpec(packages=list(packages)), INSTALLED.get)


def test_what_is_installed_satisfies_an_image() -> None:
    assert missing("rich>=12", "idna") == []
    assert has_wanted_python(ImageSpec(packages=["rich>=12"]))


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    assert missing("rich", "idna>=3.10", "numpy") == ["idna>=3.10", "numpy"]
    spec = EnvironmentSpec(name="env", kind="task")
    said = refusal(spec, ["idna>=3.10", "numpy"]).message
    assert "'env' needs idna>=3.10, numpy, which" in said
    assert "install 'idna>=3.10' 'numpy', or let the platform" in said


@pytest.mark.parametrize(
    "ours",
    [
        "flyte",
        "flyte==2.12.1",
        "flyte[sandbox]>=2.0.0b35",
        "unionai-reuse",
        "unionai_reuse>=0.1.9",
        "Flyte<3",
        "flyte @ git+https://github.com/flyteorg/flyte-sdk",
    ],
)
def test_the_distributions_whose_place_is_ours_are_never_missing(ours: str) -> None:
    assert missing("rich", ours) == []


@pytest.mark.parametrize("other", ["flyteplugins-spark", "flytekit", "flyteidl2"])
def test_other_distributions_of_flyte_are(other: str) -> None:
    assert missing(other) == [other]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Flask_Cors[async]>=1 ; python_version > '3'", "flask-cors"),
        ("rich==1 --hash=sha256:aa", "rich"),
        ("pkg @ git+https://x/y", "pkg"),
        ("git+https://x/flyte", ""),
        ("https://x/flyte-1.0-py3-none-any.whl", ""),
        ("./flyte", ""),
    ],
)
def test_a_requirement_names_a_distribution_or_a_place(line: str, name: str) -> None:
    assert name_of(line) == name


def test_what_only_a_place_tells_has_to_be_installed() -> None:
    assert missing("git+https://x/rich", "rich @ git+https://x/rich", "rich --hash=sha256:aa") == [
        "git+https://x/rich",
        "rich @ git+https://x/rich",
    ]


def test_what_is_not_a_valid_requirement_is_said() -> None:
    with pytest.raises(ImageBuildError, match="'a b c', which is not a valid requirement"):
        missing("a b c")


def test_another_python_is_known_and_said() -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = EnvironmentSpec(name="env", kind="task", image=ImageSpec(python=(3, 99)))
    assert not has_wanted_python(wanted.image)
    assert another_python(wanted) == f"environment 'env' asks for Python 3.99; it runs on {here} here"
    assert has_wanted_python(ImageSpec(requires_python=f"=={here}"))
    assert not has_wanted_python(ImageSpec(requires_python=">=3.99"))


def test_a_request_is_all_that_makes_a_difference_and_no_more() -> None:
    def request(kind: str = "task", **image: object) -> str:
        return request_of(EnvironmentSpec(name="env", kind=kind, image=ImageSpec(**image))).id  # type: ignore[arg-type]

    plain = request(packages=["a", "b"])
    assert plain == request(packages=["b", "a", "flyte"], env={"X": "1"}, layers=["apt install git"])
    others = [
        request(packages=["a", "b"], python=(3, 12)),
        request(packages=["a", "b"], options=["--prerelease", "allow"]),
        request(packages=["a", "b"], install_flyte=False),
        request("app", packages=["a", "b"]),
    ]
    assert len({plain, *others}) == 5

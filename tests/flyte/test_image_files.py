"""What the files of an image ask for: requirements, projects of uv and Poetry with their locks, scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

import flyte
from flyte import wire

BASE = flyte.Image.from_debian_base()


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


# --------------------------------------------------------------------------------------------------------- pip options


def test_options_of_pip_become_words_for_the_installer() -> None:
    more, extra = "--no-deps -f 'x y'", ["https://j"]
    image = BASE.with_pip_packages("a", index_url="https://i", extra_index_urls=extra, pre=True, extra_args=more)
    assert image.to_wire().options == [
        *("--index-url", "https://i", "--extra-index-url", "https://j"),
        *("--prerelease", "allow", "--no-deps", "-f", "x y"),
    ]


def test_a_second_default_index_is_one_more_index() -> None:
    image = BASE.with_pip_packages("a", index_url="https://i").with_pip_packages("b", index_url="https://j")
    assert image.to_wire().options == ["--index-url", "https://i", "--extra-index-url", "https://j"]


def test_secrets_of_an_image_are_named_and_not_told() -> None:
    image = BASE.with_pip_packages("pkg @ git+https://$PAT@x/y", secret_mounts=[flyte.Secret("pat", as_env_var="PAT")])
    assert image.to_wire().secrets == [wire.SecretSpec(key="pat", env="PAT")]
    assert BASE.with_pip_packages("a", secret_mounts="PAT").to_wire().secrets == [wire.SecretSpec(key="PAT", env="PAT")]


def test_the_platform_chooses_a_python_that_nobody_names() -> None:
    assert BASE.to_wire().python is None
    assert flyte.Image.from_debian_base(python_version=(3, 12)).to_wire().python == (3, 12)
    assert flyte.Image.from_debian_base(install_flyte=False).to_wire().install_flyte is False


# -------------------------------------------------------------------------------------------------------- requirements


def test_a_requirements_file_has_its_options_constraints_and_hashes(tmp_path: Path) -> None:
    main = (
        "-r more/base.txt\n-cconstraints.txt\n--extra-index-url=https://j/simple\n--pre\n--find-links wheels\n"
        "rich==1 \\\n  --hash=sha256:aa --config-settings=x=y\n"
    )
    files = {"constraints.txt": "idna<4\n", "more/base.txt": "-i https://i/simple\nhttpx\n", "requirements.txt": main}
    spec = BASE.with_requirements(write(tmp_path, files) / "requirements.txt", extra_args="--no-cache").to_wire()
    assert spec.packages == ["httpx", "rich==1 --hash=sha256:aa"]
    assert spec.constraints == ["idna<4"]
    assert spec.options == [
        *("-i", "https://i/simple", "--extra-index-url", "https://j/simple", "--pre"),
        *("--find-links", str(tmp_path / "wheels"), "--no-cache"),
    ]


@pytest.mark.parametrize("line", ["-e .", "./lib", "../lib[x]", "file:///lib", "."])
def test_a_requirement_that_is_a_folder_of_this_machine_is_refused_with_a_reason(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"requirements.txt": f"rich\n{line}\n"})
    with pytest.raises(ValueError, match="cannot be installed into the environment"):
        BASE.with_requirements(tmp_path / "requirements.txt")


# ------------------------------------------------------------------------------------------------------------------ uv

PROJECT = """
[project]
name = "app"
requires-python = ">=3.12"
dependencies = ["httpx>=0.27", "sibling", "forked ; python_version > '3'", "linked", "beside"]

[project.optional-dependencies]
gpu = ["torch"]

[dependency-groups]
etl = ["pandas", {include-group = "base"}]
base = ["numpy"]
dev = ["pytest"]

[tool.uv]
constraint-dependencies = ["certifi>2"]
prerelease = "allow"

[tool.uv.sources]
sibling = {workspace = true}
forked = {git = "https://x/forked", tag = "v1"}
linked = {url = "https://x/linked-1.0-py3-none-any.whl"}
beside = {path = "../beside"}

[[tool.uv.index]]
name = "inner"
url = "https://inner/simple"
"""

LOCK = """
[[package]]
name = "httpx"
version = "0.28.1"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "numpy"
version = "1.26.4"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "numpy"
version = "2.1.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "forked"
version = "1.0"
source = { git = "https://x/forked?tag=v1#abc123" }

[[package]]
name = "app"
version = "0.1.0"
source = { virtual = "." }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "pyproject.toml": '[tool.uv.workspace]\nmembers = ["packages/*", "app"]\n',
        "app/pyproject.toml": PROJECT,
        "packages/one/pyproject.toml": '[project]\nname = "Sibling"\ndependencies = ["attrs"]\n',
        "beside/pyproject.toml": '[project]\nname = "beside"\ndependencies = ["idna"]\n',
    }
    return write(tmp_path, files) / "app"


def test_a_project_of_uvs_has_its_sources_indexes_and_constraints(project: Path) -> None:
    spec = BASE.with_uv_project(project / "pyproject.toml").to_wire()
    assert spec.packages == [
        "httpx>=0.27",
        "attrs",
        "forked @ git+https://x/forked@v1 ; python_version > '3'",
        "linked @ https://x/linked-1.0-py3-none-any.whl",
        "idna",
    ]
    assert spec.constraints == ["certifi>2"]
    assert spec.options == ["--index", "https://inner/simple", "--prerelease", "allow"]
    assert (spec.python, spec.requires_python) == (None, ">=3.12")


def test_the_lock_of_a_project_pins_what_comes_from_an_index(project: Path) -> None:
    write(project, {"uv.lock": LOCK})
    spec = BASE.with_uv_project(project / "pyproject.toml").to_wire()
    assert spec.constraints == ["certifi>2", "httpx==0.28.1"]
    assert "forked @ git+https://x/forked@abc123 ; python_version > '3'" in spec.packages


def test_a_lock_may_lie_elsewhere(project: Path, tmp_path: Path) -> None:
    lock = write(tmp_path / "locks", {"uv.lock": LOCK}) / "uv.lock"
    assert "httpx==0.28.1" in BASE.with_uv_project(project / "pyproject.toml", uvlock=lock).to_wire().constraints


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("--only-group etl", ["pandas", "numpy"]),
        ("--only-group=base --frozen --no-dev", ["numpy"]),
        ("--group dev", ["pytest"]),
        ("--extra gpu", ["torch"]),
        ("--all-extras --all-groups", ["torch", "pandas", "numpy", "pytest"]),
    ],
)
def test_groups_and_extras_are_chosen_as_for_uv_sync(project: Path, options: str, found: list[str]) -> None:
    spec = BASE.with_uv_project(project / "pyproject.toml", extra_args=options).to_wire()
    assert [line for line in spec.packages if line in ("torch", "pandas", "numpy", "pytest")] == found
    assert ("httpx>=0.27" in spec.packages) is ("only" not in options)
    assert spec.options == ["--index", "https://inner/simple", "--prerelease", "allow"]


def test_a_group_that_a_project_does_not_have_is_named(project: Path) -> None:
    with pytest.raises(ValueError, match="no dependency group 'x'; it has etl, base, dev"):
        BASE.with_uv_project(project / "pyproject.toml", extra_args="--group x")


SCRIPT = """# /// script
# requires-python = ">=3.12"
# dependencies = ["rich", "forked"]
# [tool.uv.sources]
# forked = { git = "https://x/forked" }
# [tool.uv]
# override-dependencies = ["httpx<1"]
# [[tool.uv.index]]
# url = "https://i/simple"
# default = true
# ///
"""


def test_a_script_may_say_all_that_a_project_may(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": SCRIPT, "script.py.lock": LOCK})
    spec = flyte.Image.from_uv_script(tmp_path / "script.py", extra_index_urls="https://j").to_wire()
    assert spec.packages == ["rich", "forked @ git+https://x/forked@abc123"]
    assert spec.constraints == ["httpx==0.28.1"]
    assert spec.overrides == ["httpx<1"]
    assert spec.options == ["--default-index", "https://i/simple", "--extra-index-url", "https://j"]
    assert spec.requires_python == ">=3.12"


# -------------------------------------------------------------------------------------------------------------- Poetry

POETRY = """
[tool.poetry.dependencies]
python = "^3.11"
httpx = "^0.27"
rich = {version = "~13.2", extras = ["jupyter"], markers = "sys_platform == 'linux'"}
torch = {version = "*", optional = true}
forked = {git = "https://x/forked", rev = "abc"}
attrs = "23.1"
idna = {version = ">=3,<4", python = ">=3.8"}

[tool.poetry.extras]
gpu = ["torch"]

[tool.poetry.group.etl.dependencies]
pandas = "2.*"

[[tool.poetry.source]]
name = "inner"
url = "https://inner/simple"
"""

POETRY_LOCK = """
[[package]]
name = "httpx"
version = "0.27.2"

[[package]]
name = "forked"
version = "1"
[package.source]
type = "git"
url = "https://x/forked"
"""


def test_a_classic_project_of_poetrys_is_read_in_pips_words(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": POETRY, "poetry.lock": POETRY_LOCK})
    spec = BASE.with_poetry_project(tmp_path / "pyproject.toml").to_wire()
    assert spec.packages == [
        "httpx>=0.27,<0.28",
        "rich[jupyter]>=13.2,<13.3 ; sys_platform == 'linux'",
        "forked @ git+https://x/forked@abc",
        "attrs==23.1",
        "idna>=3,<4 ; python_version >= '3.8'",
    ]
    assert spec.constraints == ["httpx==0.27.2"]
    assert spec.options == ["--extra-index-url", "https://inner/simple"]
    assert spec.requires_python == ">=3.11,<4"


@pytest.mark.parametrize(
    ("options", "more"),
    [("--with etl", "pandas==2.*"), ("-E gpu", "torch"), ("--all-extras", "torch"), ("--only etl", "pandas==2.*")],
)
def test_groups_and_extras_are_chosen_as_for_poetry_install(tmp_path: Path, options: str, more: str) -> None:
    write(tmp_path, {"pyproject.toml": POETRY})
    packages = BASE.with_poetry_project(tmp_path / "pyproject.toml", extra_args=options).packages
    assert more in packages
    assert ("httpx>=0.27,<0.28" in packages) is ("--only" not in options)


def test_a_new_project_of_poetrys_says_it_as_all_projects_do(tmp_path: Path) -> None:
    text = '[project]\nname = "p"\nrequires-python = ">=3.12"\ndependencies = ["rich (>=13)"]\n'
    spec = BASE.with_poetry_project(write(tmp_path, {"pyproject.toml": text}) / "pyproject.toml").to_wire()
    assert (spec.packages, spec.requires_python) == (["rich (>=13)"], ">=3.12")


@pytest.mark.parametrize(
    ("versions", "line"),
    [
        ("^1.2.3", "p>=1.2.3,<2"),
        ("^0.2.3", "p>=0.2.3,<0.3"),
        ("^0.0.3", "p>=0.0.3,<0.0.4"),
        ("~1", "p>=1,<2"),
        ("~1.2.3", "p>=1.2.3,<1.3"),
        ("~=1.2", "p~=1.2"),
        ("*", "p"),
        (">=1 <2", "p>=1,<2"),
        ("!=1.5,>1", "p!=1.5,>1"),
    ],
)
def test_poetrys_versions_in_pips_words(tmp_path: Path, versions: str, line: str) -> None:
    write(tmp_path, {"pyproject.toml": f'[tool.poetry.dependencies]\np = "{versions}"\n'})
    assert BASE.with_poetry_project(tmp_path / "pyproject.toml").packages == [line]


def test_alternatives_of_poetrys_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": '[tool.poetry.dependencies]\np = "^1 || ^2"\n'})
    with pytest.raises(ValueError, match="names alternatives"):
        BASE.with_poetry_project(tmp_path / "pyproject.toml")

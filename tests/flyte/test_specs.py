"""Declared values check themselves and turn into their part of the spec."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte import wire
from flyte._declare.options import cache_of, retries_of, secrets_of, timeout_of
from flyte.errors import ImageBuildError, InvalidImageNameError
from tests.flyte.conftest import Project

SECOND = dt.timedelta(seconds=1)

# --------------------------------------------------------------------------------------------------------- resources


@pytest.mark.parametrize(
    ("resources", "spec"),
    [
        (flyte.Resources(), wire.ResourcesSpec()),
        (flyte.Resources(cpu=2, memory="512Mi"), wire.ResourcesSpec(cpu=2, memory=512 * 2**20)),
        (flyte.Resources(cpu="500m", memory="1.5Gi"), wire.ResourcesSpec(cpu=0.5, memory=1610612736)),
        (flyte.Resources(cpu=(1, 4), memory=("1G", "2G")), wire.ResourcesSpec(cpu=1, memory=10**9)),
        (flyte.Resources(gpu=2), wire.ResourcesSpec(gpu="GPU:2")),
        (flyte.Resources(gpu="T4:1"), wire.ResourcesSpec(gpu="T4:1")),
        (flyte.Resources(gpu="A100 80G:4"), wire.ResourcesSpec(gpu="A100 80G:4")),
        (flyte.Resources(gpu=flyte.GPU("H100", 8)), wire.ResourcesSpec(gpu="H100:8")),
        (flyte.Resources(gpu=flyte.TPU("V6E")), wire.ResourcesSpec(gpu="V6E:1")),
        (flyte.Resources(gpu=flyte.APPLE_SILICON()), wire.ResourcesSpec(gpu="APPLE_SILICON:1")),
        (flyte.Resources(disk="10Gi", shm="auto"), wire.ResourcesSpec(disk=10 * 2**30)),
        (flyte.Resources(shm="64Mi"), wire.ResourcesSpec(shm=64 * 2**20)),
    ],
)
def test_resources_become_numbers(resources: flyte.Resources, spec: wire.ResourcesSpec) -> None:
    assert resources.to_wire() == spec


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cpu": -1}, "negative"),
        ({"cpu": "much"}, "cpu must be cores"),
        ({"memory": 512}, "memory must be text such as '512Mi'"),
        ({"memory": "abc"}, "memory"),
        ({"memory": ("2Gi", "1Gi")}, "over the limit"),
        ({"gpu": "T5:1"}, "gpu must be"),
        ({"gpu": "T4"}, "gpu must be"),
        ({"gpu": 0.5}, "gpu"),
        ({"disk": "10 elephants"}, "disk"),
        ({"cpu": (1, 2, 3)}, "pair"),
    ],
)
def test_impossible_resources_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        flyte.Resources(**fields)


def test_devices_know_their_models() -> None:
    assert str(flyte.AMD_GPU("MI300X", 2)) == "MI300X:2"
    assert str(flyte.Neuron("Trn1")) == "Trn1:1"
    assert flyte.HABANA_GAUDI().device_class == "HABANA_GAUDI"
    with pytest.raises(ValueError, match="is not a GPU; choose one of A10"):
        flyte.GPU("GTX 970")
    with pytest.raises(ValueError, match="at least 1"):
        flyte.GPU("T4", 0)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (flyte.Resources(), "cpu"),
        (flyte.Secret("a"), "key"),
        (flyte.RetryStrategy(1), "count"),
        (flyte.Timeout(), "deadline"),
        (flyte.ReusePolicy(), "replicas"),
        (flyte.Image.from_base("x"), "name"),
        (flyte.Cron("* * * * *"), "expression"),
    ],
)
def test_specs_are_frozen_and_can_be_keys(value: Any, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, None)
    assert {value: 1}[dataclasses.replace(value)] == 1


# ----------------------------------------------------------------------------------------------------------- secrets


def test_a_secrets_variable_is_its_key_in_upper_case() -> None:
    assert flyte.Secret("webhook-api-key").env_var == "WEBHOOK_API_KEY"
    assert flyte.Secret("key", group="my-team").env_var == "MY_TEAM_KEY"
    assert flyte.Secret("key", as_env_var="OTHER").to_wire() == wire.SecretSpec(key="key", env="OTHER")


def test_secrets_are_named_in_every_way() -> None:
    secret = flyte.Secret("b")
    assert secrets_of(None) == ()
    assert secrets_of("a") == (flyte.Secret("a"),)
    assert secrets_of(secret) == (secret,)
    assert secrets_of(["a", secret]) == (flyte.Secret("a"), secret)
    with pytest.raises(TypeError, match="SecretRequest"):
        secrets_of(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="SecretRequest"):
        secrets_of(["a", 5])  # type: ignore[list-item]


def test_impossible_secrets_are_refused() -> None:
    with pytest.raises(ValueError, match="upper-case"):
        flyte.Secret("a", as_env_var="lower")
    with pytest.raises(ValueError, match="/etc/flyte/secrets"):
        flyte.Secret("a", mount=Path("/tmp"))
    assert flyte.Secret("a", mount=Path("/etc/flyte/secrets")).to_wire().mount == "/etc/flyte/secrets"


# ------------------------------------------------------------------------------------------- retries, timeouts, reuse


def test_retries_are_a_count_or_a_strategy() -> None:
    assert retries_of(3).to_wire() == wire.RetrySpec(count=3)
    strategy = flyte.RetryStrategy(5, flyte.Backoff(SECOND, factor=2, cap=10 * SECOND))
    assert retries_of(strategy).to_wire() == wire.RetrySpec(count=5, base=1, factor=2, cap=10)


@pytest.mark.parametrize("count", [-1, True, "3", 1.5])
def test_impossible_counts_are_refused(count: Any) -> None:
    with pytest.raises(ValueError, match="retries"):
        retries_of(count)


def test_a_pause_grows_up_to_its_cap() -> None:
    backoff = flyte.Backoff(10 * SECOND, factor=2.0, cap=300 * SECOND)
    assert [backoff.compute_delay(n).total_seconds() for n in range(6)] == [10, 20, 40, 80, 160, 300]
    assert backoff.compute_delay(5000) == 300 * SECOND
    assert flyte.Backoff(SECOND).compute_delay(9) == SECOND


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"base": -SECOND}, "base must be >= 0"),
        ({"base": SECOND, "factor": 0.5}, "factor must be >= 1.0"),
        ({"base": SECOND, "factor": math.nan}, "finite number"),
        ({"base": SECOND, "cap": -SECOND}, "cap must be >= 0"),
        ({"base": SECOND, "factor": 2.0}, "cap is required when factor > 1.0"),
    ],
)
def test_impossible_backoffs_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        flyte.Backoff(**fields)


def test_timeouts_are_seconds_or_timedeltas_or_all_three() -> None:
    assert timeout_of(0) == timeout_of(None) == flyte.Timeout()
    assert timeout_of(5).to_wire() == wire.TimeoutSpec(max_runtime=5)
    assert timeout_of(dt.timedelta(minutes=1)).to_wire() == wire.TimeoutSpec(max_runtime=60)
    whole = flyte.Timeout(max_runtime=1, max_queued_time=dt.timedelta(seconds=2), deadline=3.5)
    assert whole.to_wire() == wire.TimeoutSpec(max_runtime=1, max_queued_time=2, deadline=3.5)
    with pytest.raises(TypeError, match="seconds or a timedelta"):
        timeout_of("soon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="deadline"):
        flyte.Timeout(deadline=-1)


def test_reuse_is_a_range_of_processes() -> None:
    assert flyte.ReusePolicy().to_wire() == wire.ReuseSpec(min_replicas=2, max_replicas=2)
    policy = flyte.ReusePolicy(replicas=(0, 4), idle_ttl=dt.timedelta(minutes=5), concurrency=8, scaledown_ttl=60)
    assert policy.to_wire() == wire.ReuseSpec(min_replicas=0, max_replicas=4, concurrency=8, idle_ttl=300)
    assert policy.replicas == (0, 4)
    assert policy.scaledown_ttl == dt.timedelta(seconds=60)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"replicas": 0}, "replicas"),
        ({"replicas": (3, 1)}, "replicas"),
        ({"concurrency": 0}, "concurrency"),
        ({"idle_ttl": 5}, "idle_ttl must be at least 30"),
        ({"scaledown_ttl": 5}, "scaledown_ttl must be at least 30"),
    ],
)
def test_impossible_reuse_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        flyte.ReusePolicy(**fields)


# ------------------------------------------------------------------------------------------------------------- cache


def add(x: int) -> int:
    # a comment
    return x + 1


def same_as_add(x: int) -> int:
    return x + 1


def test_another_image_is_another_version_but_not_where_the_version_is_declared() -> None:
    def version(cache: flyte.Cache, image: object) -> str:
        spec = cache.to_wire(add, image)  # type: ignore[arg-type]
        assert spec is not None
        return spec.version

    image = flyte.Image.from_debian_base().with_pip_packages("pandas")
    assert version(flyte.Cache("auto"), "auto") == version(flyte.Cache("auto"), None)
    assert version(flyte.Cache("auto"), image) != version(flyte.Cache("auto"), "auto")
    fixed = flyte.Cache("override", version_override="7")
    assert version(fixed, image) == version(fixed, None) == "7"


def test_the_age_of_a_result_is_a_timedelta_or_seconds() -> None:
    for given in (90, dt.timedelta(minutes=1.5)):
        spec = flyte.Cache("auto", max_age=given).to_wire(add)
        assert spec is not None
        assert spec.max_age == 90
    with pytest.raises(ValueError, match="max_age= is -1 seconds; it is 0 or more"):
        flyte.Cache("auto", max_age=-1)


def test_a_cache_is_named_by_a_word_or_given() -> None:
    assert not cache_of("disable").is_enabled
    assert not cache_of("off").is_enabled
    assert cache_of("auto").is_enabled
    assert cache_of("enabled").behavior == "auto"
    with pytest.raises(ValueError, match="cache="):
        cache_of("sometimes")
    with pytest.raises(ValueError, match="version_override"):
        flyte.Cache("override")


def test_the_automatic_version_is_that_of_the_code() -> None:
    first = flyte.Cache("auto").to_wire(add)
    assert first is not None
    assert first == flyte.Cache("auto").to_wire(add)
    assert first != flyte.Cache("auto", salt="other").to_wire(add)
    assert first.version != cache_of("auto").to_wire(same_as_add).version  # type: ignore[union-attr]


def test_a_version_may_be_given_or_come_from_a_policy() -> None:
    class Policy:
        def get_version(self, salt: str, params: Any) -> str:
            return f"{salt}-{params.func.__name__}"

    assert isinstance(Policy(), flyte.CachePolicy)
    given = flyte.Cache("override", version_override="v1", ignored_inputs="x", serialize=True).to_wire(add)
    assert given == wire.CacheSpec(version="v1", serialize=True, ignored_inputs=["x"])
    one, two = (flyte.Cache("auto", salt=salt, policies=Policy()).to_wire(add) for salt in "ab")
    assert one is not None
    assert two is not None
    assert one.version != two.version
    assert flyte.Cache("disable").to_wire(add) is None


# ------------------------------------------------------------------------------------------------- triggers and others


def test_triggers_are_made_in_one_word() -> None:
    daily = flyte.Trigger.daily("when", inputs={"x": 1})
    assert daily.automation == flyte.Cron("0 0 * * *")
    assert daily.inputs == {"x": 1, "when": flyte.TriggerTime}
    assert [make().name for make in (flyte.Trigger.hourly, flyte.Trigger.weekly, flyte.Trigger.monthly)] == [
        "hourly",
        "weekly",
        "monthly",
    ]
    assert flyte.Trigger("mine", flyte.FixedRate(5)).auto_activate
    with pytest.raises(ValueError, match="five fields"):
        flyte.Cron("* *")
    with pytest.raises(ValueError, match="at least 1"):
        flyte.FixedRate(0)


def test_a_link_is_whatever_makes_one() -> None:
    class Logs:
        name = "logs"

        def get_link(self, *args: Any, **kwargs: Any) -> str:
            return "https://logs"

    assert isinstance(Logs(), flyte.Link)


# ------------------------------------------------------------------------------------------------------------- image


def test_every_layer_gives_a_new_image(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy==2.0  # pinned\n# comment\n-i https://index\n\nrich\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\ndependencies = ["httpx>=0.27"]\n')
    base = flyte.Image.from_debian_base(python_version=(3, 12), name="team/my-image", registry="reg.io")
    image = (
        base.with_pip_packages("fastapi", "uvicorn", pre=True)
        .with_requirements(tmp_path / "requirements.txt")
        .with_uv_project(tmp_path / "pyproject.toml")
        .with_poetry_project(tmp_path / "pyproject.toml")
        .with_apt_packages("vim", "curl")
        .with_commands(["echo hi", "ls"])
        .with_env_vars({"A": "1"})
        .with_workdir("/srv")
        .with_source_folder("src", "/app")
        .with_source_file(["a.py", "b.py"])
        .with_code_bundle()
        .with_dockerignore(".dockerignore")
    )
    assert base.packages == []
    assert image.packages == ["fastapi", "uvicorn", "numpy==2.0", "rich", "httpx>=0.27", "httpx>=0.27"]
    spec = image.to_wire()
    assert spec.python == (3, 12)
    assert spec.env == {"A": "1"}
    assert spec.layers == ["apt install vim curl", "run echo hi", "run ls"]
    assert image.uri.startswith("reg.io/team/my-image:")
    assert image.uri != base.uri


def test_images_start_from_anything(tmp_path: Path) -> None:
    assert flyte.Image.from_base("python:3.12").uri == "python:3.12"
    assert flyte.Image.from_base("python:3.12").to_wire().layers == ["from python:3.12"]
    assert flyte.Image.from_ref_name("team").to_wire().name == "team"
    docker = flyte.Image.from_dockerfile(tmp_path / "Dockerfile", "reg.io", "name")
    assert docker.to_wire().layers == [f"dockerfile {tmp_path / 'Dockerfile'}"]
    with pytest.raises(ValueError, match="no further layers"):
        docker.with_pip_packages("x")


WITH_FILES = [
    lambda: flyte.Image.from_debian_base().with_requirements("missing/requirements.txt"),
    lambda: flyte.Image.from_debian_base().with_uv_project("missing/pyproject.toml"),
    lambda: flyte.Image.from_debian_base().with_poetry_project("missing/pyproject.toml"),
    lambda: flyte.Image.from_uv_script("missing/script.py"),
]


@pytest.mark.parametrize("make", WITH_FILES)
def test_files_that_an_image_is_made_of_are_needed_by_whoever_deploys_and_by_nobody_else(
    make: Callable[[], flyte.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make()  # in a process that loads shipped code, and does not know yet for which action
    with pytest.raises(ImageBuildError, match="takes its packages from missing/"):
        image.to_wire()
    monkeypatch.setenv("FLYTE_UNIT", "u1")  # in an action
    assert image.to_wire().packages == []


def test_a_relative_file_is_found_beside_the_code_too(project: Project) -> None:
    project.write("beside/requirements.txt", "rich\n")
    declaration = 'import flyte\n\nimage = flyte.Image.from_debian_base().with_requirements("requirements.txt")\n'
    project.write("beside/images.py", declaration)
    assert importlib.import_module("beside.images").image.packages == ["rich"]


def test_requirements_are_read_as_pip_reads_them(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("httpx>=0.27\n")
    (tmp_path / "requirements.txt").write_text(
        "-r base.txt\n--index-url https://index\n\nnumpy==2.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "rich  # pretty\nidna ; python_version > '3'\npkg @ https://x/pkg.zip#egg=pkg\n"
    )
    image = flyte.Image.from_debian_base().with_requirements(tmp_path / "requirements.txt")
    assert image.packages == [
        "httpx>=0.27",
        "numpy==2.0 --hash=sha256:aa --hash=sha256:bb",
        "rich",
        "idna ; python_version > '3'",
        "pkg @ https://x/pkg.zip#egg=pkg",
    ]
    (tmp_path / "base.txt").write_text("-r requirements.txt\n")
    with pytest.raises(ValueError, match="in a circle"):
        flyte.Image.from_debian_base().with_requirements(tmp_path / "requirements.txt")


def test_a_script_says_what_it_needs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        '# /// script\n# requires-python = "==3.12.*"\n# dependencies = [\n#   "rich",\n# ]\n# ///\nprint()\n'
    )
    image = flyte.Image.from_uv_script(script, name="from-script")
    assert image.packages == ["rich"]
    assert image.python_version == (3, 12)
    script.write_text("print()\n")
    with pytest.raises(ValueError, match="PEP 723"):
        flyte.Image.from_uv_script(script)


def test_a_clone_changes_what_it_is_told() -> None:
    image = flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("rich")
    clone = image.clone(name="other", registry="reg.io", python_version=(3, 13))
    assert (clone.name, clone.registry, clone.python_version, clone.packages) == ("other", "reg.io", (3, 13), ["rich"])


def test_impossible_images_are_refused() -> None:
    with pytest.raises(InvalidImageNameError, match="My Image"):
        flyte.Image.from_debian_base(name="My Image")
    with pytest.raises(ValueError, match="pair"):
        flyte.Image.from_debian_base(python_version="3.12")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must end in \.txt"):
        flyte.Image.from_debian_base().with_requirements("pyproject.toml")
    with pytest.raises(TypeError, match="list of commands"):
        flyte.Image.from_debian_base().with_commands("ls")

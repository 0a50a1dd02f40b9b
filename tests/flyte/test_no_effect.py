"""What is declared and not carried out says so: at deploy, run and serve, on the pages, and as an error if strict."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import flyte
import flyte.app
from flyte._declare import no_effect as _no_effect
from flyte._declare.task_options import TaskOptions
from flyte.errors import InvalidInputError
from tests.flyte.conftest import Project
from tests.flyte.fake_platform import FakePlatform

SCHEDULED = """
    import flyte

    env = flyte.TaskEnvironment("weather")

    @env.task(triggers=flyte.Trigger.hourly(queue="q"), pod_template="p")
    async def report() -> int:
        return 1

    @env.task(pod_template="p")
    async def fetch() -> int:
        return 2
"""


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_no_effect, "_said", set())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_deploying_says_each_declaration_without_effect_once(
    connected: FakePlatform, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    program = project.load(SCHEDULED)
    (deployed,) = flyte.deploy(program.env)
    flyte.deploy(program.env)
    assert warnings(caplog) == [
        "Trigger(queue=) (`hourly`) of weather.report has no effect: there are no queues; all tasks share the "
        "platform's slots (docs/limits.md)",
        "pod_template= of weather.report, weather.fetch has no effect: every action and replica is a process of this "
        "machine, not a pod (docs/limits.md)",
    ]
    assert list(deployed.warnings) == warnings(caplog)


def test_a_run_of_the_code_says_it_once_for_all_runs(
    connected: FakePlatform, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    program = project.load(SCHEDULED)
    flyte.run(program.fetch)
    flyte.run(program.fetch)
    assert [line.split(" ")[0] for line in warnings(caplog)] == ["Trigger(queue=)", "pod_template="]


def test_the_specs_carry_what_their_pages_show(connected: FakePlatform, project: Project) -> None:
    program = project.load(SCHEDULED)
    flyte.deploy(program.env)
    specs = {spec.name: spec.no_effect for spec in connected.requests[-1].tasks}
    assert specs["weather.fetch"] == [
        "pod_template= has no effect: every action and replica is a process of this machine, not a pod"
    ]
    assert [line.split(" ")[0] for line in specs["weather.report"]] == ["Trigger(queue=)", "pod_template="]


def test_the_list_is_no_part_of_the_version(
    connected: FakePlatform, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = project.load(SCHEDULED)
    flyte.deploy(program.env)
    monkeypatch.setattr(_no_effect, "TASK", ())
    flyte.deploy(program.env)
    before, after = connected.requests
    assert before.version == after.version
    assert before.tasks[0].no_effect
    assert not after.tasks[0].no_effect


def test_strict_refuses_it_before_anything_is_sent(connected: FakePlatform, project: Project) -> None:
    program = project.load(SCHEDULED)
    for call in (
        lambda: flyte.deploy(program.env, strict=True),
        lambda: flyte.with_runcontext(strict=True).run(program.fetch),
    ):
        with pytest.raises(
            InvalidInputError, match=r"(?s)strict: Trigger\(queue=\) .* of weather.report.*pod_template= of weather"
        ) as no:
            call()
        assert no.value.code == "NoEffectError"
    assert connected.requests == []


def test_strict_can_be_a_variable(connected: FakePlatform, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    program = project.load(SCHEDULED)
    monkeypatch.setenv("FLYTE_STRICT", "1")
    with pytest.raises(InvalidInputError, match="pod_template="):
        flyte.deploy(program.env)
    flyte.deploy(program.env, strict=False)
    assert not connected.requests[-1].strict


def test_what_has_an_effect_passes_strict(connected: FakePlatform, project: Project) -> None:
    program = project.load(
        """
        import flyte

        env = flyte.TaskEnvironment(
            "plain", resources=flyte.Resources(cpu=1, memory="1Gi"), env_vars={"A": "1"}, cache="disable",
            image=flyte.Image.from_debian_base().with_env_vars({"B": "2"}), reusable=flyte.ReusePolicy(1, idle_ttl=60),
        )

        @env.task(retries=2, timeout=60, report=True, docs=flyte.Documentation("d"), short_name="s")
        async def work() -> int:
            return 1
        """
    )
    flyte.deploy(program.env, strict=True)
    assert connected.requests[-1].strict, "the platform is to be as strict about its machine"


def test_the_options_of_a_run_say_it(
    connected: FakePlatform, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    program = project.load(SCHEDULED.replace(', pod_template="p"', "").replace('pod_template="p"', ""))
    flyte.with_runcontext(queue="fast", labels={"a": "b"}).run(program.fetch)
    assert any(line.startswith("queue= of flyte.with_runcontext() has no effect") for line in warnings(caplog))
    with pytest.raises(InvalidInputError, match="interruptible="):
        flyte.with_runcontext(interruptible=True, strict=True).run(program.fetch)


def test_an_overridden_task_says_what_the_override_declares(
    connected: FakePlatform, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    program = project.load(SCHEDULED)
    flyte.run(program.fetch.override(queue="fast"))
    assert any(line.startswith("queue= of weather.fetch") for line in warnings(caplog))


def test_a_dry_run_says_it_too(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    program = project.load(SCHEDULED)
    (planned,) = flyte.deploy(program.env, dry_run=True)
    assert len(warnings(caplog)) == len(planned.warnings) == 2


def test_init_says_it(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    flyte.init(image_builder="remote")
    assert warnings(caplog) == ["image_builder= of flyte.init() has no effect: images are not built (docs/limits.md)"]
    monkeypatch.setenv("FLYTE_STRICT", "1")
    with pytest.raises(InvalidInputError, match="image_builder="):
        flyte.init(image_builder="remote")


MOUNTING = """
    import flyte
    import flyte.app

    SECRET = flyte.Secret("pem", mount="/etc/flyte/secrets")
    env = flyte.TaskEnvironment("signs", secrets=SECRET)
    app = flyte.app.AppEnvironment("shows", secrets=SECRET, args="true")

    @env.task
    async def sign() -> int:
        return 1
"""


def test_local_mode_says_that_it_makes_no_file_of_a_secret(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    program = project.load(MOUNTING)
    flyte.with_runcontext(mode="local").run(program.sign)
    (line,) = warnings(caplog)
    assert line.startswith("Secret(mount=) of signs has no effect: in local mode no file is made in /etc/flyte/secrets")
    with pytest.raises(InvalidInputError, match="strict: Secret"):
        flyte.with_servecontext(mode="local", strict=True).serve(program.app)


def test_a_platform_makes_the_file_of_a_secret(
    connected: FakePlatform, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    flyte.deploy(project.load(MOUNTING).env)
    assert warnings(caplog) == []


DECLARED: dict[str, Callable[[], Any]] = {
    "pod_template=": lambda: flyte.TaskEnvironment("e", pod_template=flyte.PodTemplate()),
    "interruptible=": lambda: flyte.TaskEnvironment("e", interruptible=True),
    "service_account=": lambda: flyte.TaskEnvironment("e", service_account="robot"),
    "Resources(gpu=)": lambda: flyte.TaskEnvironment("e", resources=flyte.Resources(gpu="T4:1")),
    "Resources(disk=)": lambda: flyte.TaskEnvironment("e", resources=flyte.Resources(disk="1Gi")),
    "Resources(shm=)": lambda: flyte.TaskEnvironment("e", resources=flyte.Resources(shm="auto")),
    "Image.from_base() (`ghcr.io/a/b:1`)": lambda: flyte.TaskEnvironment("e", image="ghcr.io/a/b:1"),
    "Image.from_dockerfile() (`Dockerfile`)": lambda: flyte.TaskEnvironment(
        "e", image=flyte.Image.from_dockerfile("Dockerfile")
    ),
    "Image.with_apt_packages() (`apt install git; apt install curl`)": lambda: flyte.TaskEnvironment(
        "e", image=flyte.Image.from_debian_base().with_apt_packages("git").with_apt_packages("curl")
    ),
    "Image.with_commands() (`run make`)": lambda: flyte.TaskEnvironment(
        "e", image=flyte.Image.from_debian_base().with_commands(["make"])
    ),
    "queue=": lambda: flyte.TaskEnvironment("e", queue="fast"),
    "plugin_config=": lambda: flyte.TaskEnvironment("e", plugin_config={"spark": 1}),
    "ReusePolicy(scaledown_ttl=)": lambda: flyte.TaskEnvironment("e", reusable=flyte.ReusePolicy(scaledown_ttl=90)),
    "ReusePolicy(scope='run')": lambda: flyte.TaskEnvironment("e", reusable=flyte.ReusePolicy(scope="run")),
    "Scaling(replicas=(least, most))": lambda: flyte.app.AppEnvironment("e", scaling=flyte.app.Scaling((1, 3))),
    "Scaling(metric=)": lambda: flyte.app.AppEnvironment(
        "e", scaling=flyte.app.Scaling(metric=flyte.app.Scaling.Concurrency(5))
    ),
    "cluster_pool=": lambda: flyte.app.AppEnvironment("e", cluster_pool="big"),
    "type=": lambda: flyte.app.AppEnvironment("e", type="Streamlit"),
}


@pytest.mark.parametrize("option", DECLARED)
def test_an_environment_says_what_it_declares_without_effect(option: str) -> None:
    (note,) = _no_effect.of_environment(DECLARED[option]())
    assert note.option == option
    assert note.places == ("e",)


@pytest.mark.parametrize("count", [1, (0, 1), (2, 2), 3])
def test_a_number_of_replicas_that_is_kept_is_not_named(count: Any) -> None:
    assert _no_effect.of_environment(flyte.app.AppEnvironment("e", scaling=flyte.app.Scaling(count))) == []


# Nothing is left out: each option of the API either does something, or has its row.

EFFECTIVE = {
    "TaskOptions": "short_name cache retries timeout docs report links triggers produces_artifacts max_inline_io_bytes",
    "TaskEnvironment": "name depends_on description secrets env_vars resources image include reusable cache",
    "AppEnvironment": "name depends_on description secrets env_vars resources image include port args command "
    "requires_auth scaling domain links parameters inputs timeouts",
    "with_runcontext": "mode name version copy_style dry_run copy_bundle_to overwrite_cache project domain env_vars "
    "labels log_level log_format user_log_level reset_root_logger disable_run_cache cache_lookup_scope "
    "max_action_concurrency custom_context raw_data_path run_base_dir strict",
    "with_servecontext": "mode version copy_style dry_run project domain env_vars parameter_values log_level "
    "log_format user_log_level on_progress raw_data_path strict",
}
"""The options that have an effect."""


def _names(rows: Iterable[_no_effect.Row[Any]]) -> set[str]:
    return {word for row in rows for word in re.findall(r"(\w+)=", row.option)}


@pytest.mark.parametrize(
    ("what", "options", "rows"),
    [
        ("TaskOptions", [f.name for f in dataclasses.fields(TaskOptions)], _no_effect.TASK),
        (
            "TaskEnvironment",
            [f.name for f in dataclasses.fields(flyte.TaskEnvironment)],
            (*_no_effect.ENVIRONMENT, *_no_effect.TASK_ENVIRONMENT),
        ),
        (
            "AppEnvironment",
            [f.name for f in dataclasses.fields(flyte.app.AppEnvironment)],
            (*_no_effect.ENVIRONMENT, *_no_effect.APP),
        ),
        ("with_runcontext", list(inspect.signature(flyte.with_runcontext).parameters), _no_effect.RUN),
        ("with_servecontext", list(inspect.signature(flyte.with_servecontext).parameters), _no_effect.SERVE),
    ],
)
def test_every_option_has_an_effect_or_says_that_it_has_none(
    what: str, options: list[str], rows: tuple[_no_effect.Row[Any], ...]
) -> None:
    assert set(options) - set(EFFECTIVE[what].split()) - _names(rows) == set()

"""App environments: what they declare, where they answer, what their process is given."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI

import flyte
import flyte.app
from flyte import wire
from flyte.app import AppEndpoint, AppEnvironment, Domain, Input, Link, Parameter, Port, RunOutput, Scaling, Timeouts
from flyte.app._environment import set_local_endpoint
from flyte.app.extras import FastAPIAppEnvironment
from flyte.errors import CodeBundleError, InitializationError
from tests.flyte.fake_platform import FakePlatform

ROOT = Path(__file__).parents[2]
api = FastAPI()
backend = FastAPIAppEnvironment(name="backend-api", app=api, requires_auth=False)
frontend = FastAPIAppEnvironment(
    name="frontend-api",
    app=api,
    inputs=[Input(name="backend_url", value=AppEndpoint(app_name="backend-api"))],
    depends_on=[backend],
)
page = AppEnvironment(name="page")


@page.server
def serve_page() -> None: ...


def command(name: str = "app", **fields: Any) -> AppEnvironment:
    return AppEnvironment(name, args="serve", **fields)


# -------------------------------------------------------------------------------------------------------- declarations


def test_a_fastapi_app_is_found_by_its_variable() -> None:
    spec = backend.spec(ROOT)
    assert (spec.kind, spec.entry, spec.argv) == ("asgi", "tests.flyte.test_app:backend", [])
    assert spec.environment.kind == "app"
    assert not spec.requires_auth
    assert spec.links == [wire.LinkSpec(path="/docs", title="OpenAPI documentation", is_relative=True)]
    assert frontend.spec(ROOT).environment.depends_on == ["backend-api"]


def test_the_application_is_left_as_it_is() -> None:
    app = FastAPI()
    app.state.before = 1
    env = FastAPIAppEnvironment(name="kept", app=app)
    app.state.after = 2

    @app.get("/later")
    def later() -> None: ...

    assert env.app is app
    assert (app.state.before, app.state.after) == (1, 2)
    assert "/later" in [getattr(route, "path", "") for route in env.app.routes]


def test_an_app_with_a_server_function_is_called_by_its_variable() -> None:
    spec = page.spec(ROOT)
    assert (spec.kind, spec.entry) == ("server", "tests.flyte.test_app:page")
    assert page._server is serve_page


def test_startup_and_shutdown_functions_are_kept_and_cloned() -> None:
    env = AppEnvironment("hooks")

    @env.on_startup
    async def up() -> None: ...

    @env.on_shutdown
    def down() -> None: ...

    @env.server
    def serve() -> None: ...

    clone = env.clone_with("other")
    assert (clone._on_startup, clone._on_shutdown, clone._server) == (up, down, serve)


def test_a_command_is_split_as_a_shell_would_and_keeps_its_variables() -> None:
    env = AppEnvironment("st", args="streamlit run 'my app.py' --server.port $PORT", type="Streamlit")
    spec = env.spec(ROOT)
    assert spec.argv == ["streamlit", "run", "my app.py", "--server.port", "$PORT"]
    assert (spec.kind, spec.entry) == ("command", "")
    both = AppEnvironment("both", command=["python", "-m"], args=["http.server", "$PORT"])
    assert both.spec(ROOT).argv == ["python", "-m", "http.server", "$PORT"]


def test_every_field_reaches_the_spec() -> None:
    env = command(
        port=8501,
        scaling=Scaling(replicas=(1, 4), metric=Scaling.Concurrency(10), scaledown_after=dt.timedelta(minutes=5)),
        domain=Domain(subdomain="sub", custom_domain="app.example.com"),
        links=[Link("https://x", "X")],
        timeouts=Timeouts(request=60),
        secrets=flyte.Secret("key"),
        env_vars={"A": "1"},
        resources=flyte.Resources(cpu=1),
    )
    spec = env.spec(ROOT)
    assert spec.port == 8501
    assert spec.scaling == wire.ScalingSpec(min_replicas=1, max_replicas=4, concurrency=10, scaledown_after=300)
    assert (spec.subdomain, spec.custom_domain) == ("sub", "app.example.com")
    assert spec.links == [wire.LinkSpec(path="https://x", title="X")]
    assert spec.request_timeout == 60
    assert spec.environment.secrets == [wire.SecretSpec(key="key", env="KEY")]
    assert spec.environment.env_vars == {"A": "1"}
    assert command("two", scaling=Scaling(2, Scaling.RequestRate(5))).spec(ROOT).scaling.request_rate == 5
    named = command("three", domain=Domain(flyte.app.Subdomain(function=lambda app: f"x-{app}")))
    assert named.spec(ROOT).subdomain == "x-three"


@pytest.mark.parametrize("name", ["My-App", "app_1", "-app", "app-", "a--b", "a.b", ""])
def test_names_follow_the_rule_of_host_names(name: str) -> None:
    with pytest.raises(ValueError, match="must consist of lower case"):
        command(name)


def test_a_name_has_at_most_63_characters() -> None:
    assert command("a" * 63).name
    with pytest.raises(ValueError, match="at most 63 characters"):
        command("a" * 64)


@pytest.mark.parametrize("port", [8012, 8022, 8112, 9090, 9091])
def test_reserved_ports_are_refused(port: int) -> None:
    with pytest.raises(ValueError, match="is not allowed"):
        command(port=port)


def test_ports_are_numbers() -> None:
    assert command().get_port() == Port(8080)
    assert command(port=Port(9000, "h2c")).port == Port(9000, "h2c")
    for wrong in (0, 70000, "8080", True):
        with pytest.raises(ValueError, match="port"):
            command(port=wrong)


def test_impossible_apps_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to run"):
        AppEnvironment("empty").spec(ROOT)
    with pytest.raises(TypeError, match="takes a FastAPI application"):
        FastAPIAppEnvironment(name="none")
    with pytest.raises(ValueError, match="no args= or command="):
        FastAPIAppEnvironment(name="both", app=api, args="x")
    with pytest.raises(ValueError, match=r"has args= or command="):
        command().server(serve_page)
    with pytest.raises(ValueError, match="exclude each other"):
        command(cluster="c", cluster_pool="p")
    with pytest.raises(TypeError, match=r"scaling= takes flyte\.app\.Scaling"):
        command(scaling=3)
    with pytest.raises(CodeBundleError, match="is not a variable"):
        FastAPIAppEnvironment(name="unassigned", app=api).spec(ROOT)


def test_a_loops_variable_is_not_taken_for_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "loop_app.py"
    file.write_text(
        "from flyte.app import AppEnvironment\n"
        "one, two = AppEnvironment('one'), AppEnvironment('two')\n"
        "for each in (one, two):\n    each.server(lambda: None)\n"
    )
    made = ModuleType("loop_app")
    made.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "loop_app", made)
    exec(compile(file.read_text(), str(file), "exec"), made.__dict__)
    assert made.one.spec(tmp_path).entry == "loop_app:one"
    assert made.two.spec(tmp_path).entry == "loop_app:two"


def test_a_clone_changes_what_it_is_told() -> None:
    clone = frontend.clone_with("clone", requires_auth=False, parameters=[Parameter(name="p", value="v")])
    assert isinstance(clone, FastAPIAppEnvironment)
    assert clone.app is api
    assert [parameter.name for parameter in clone.parameters] == ["p"]
    assert len(clone.links) == len(frontend.links) == 1
    assert [parameter.name for parameter in frontend.clone_with("same").parameters] == ["backend_url"]


def test_small_values_check_themselves() -> None:
    assert Timeouts(request=30).request == dt.timedelta(seconds=30)
    assert command(timeouts=Timeouts(0)).spec(ROOT).request_timeout is None
    for wrong, words in ((3601, "must not exceed 1 hour"), (-1, "must be non-negative")):
        with pytest.raises(ValueError, match=words):
            Timeouts(request=wrong)
    with pytest.raises(TypeError, match="int or timedelta"):
        Timeouts(request="soon")  # type: ignore[arg-type]
    for replicas in (0, (2, 1), (-1, 1)):
        with pytest.raises(ValueError, match="replicas"):
            Scaling(replicas)
    with pytest.raises(ValueError, match="from 1 on"):
        Scaling.Concurrency(0)
    with pytest.raises(TypeError, match="metric"):
        Scaling(metric=5)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- parameters


def test_input_is_parameter_and_inputs_is_parameters() -> None:
    assert Input is Parameter is flyte.app.Input
    assert frontend.parameters is frontend.inputs
    assert frontend.spec(ROOT).parameters == [
        wire.ParameterSpec(name="backend_url", env="BACKEND_URL", kind="endpoint", app_name="backend-api")
    ]
    with pytest.raises(ValueError, match="older name"):
        command(inputs=[Parameter("a", "1")], parameters=[Parameter("b", "2")])
    with pytest.raises(ValueError, match="'a' is declared twice"):
        command(parameters=[Parameter("a", "1"), Parameter("a", "2")])


@pytest.mark.parametrize(
    ("parameter", "spec"),
    [
        (Parameter("my-key", "v"), {"env": "MY_KEY", "kind": "value", "value": "v"}),
        (Parameter("key", "v", env_var="other_Name"), {"env": "other_Name", "value": "v"}),
        (Parameter("key"), {"kind": "value", "value": None}),
        (Parameter("model", flyte.io.File(path="/m.bin"), mount="/models/"), {"kind": "file", "mount": "/models/"}),
        (Parameter("data", flyte.io.Dir(path="/d"), download=False), {"kind": "dir", "value": "/d", "download": False}),
        (Parameter("path", "s3://x", type="file"), {"kind": "file", "value": "s3://x"}),
        (Parameter("out", RunOutput(type="file", run_name="r1")), {"kind": "run_output", "run_name": "r1"}),
        (
            Parameter("out", RunOutput(type=str, task_name="env.t", task_version="v1", getter=(0, "key"))),
            {"task_name": "env.t", "task_version": "v1", "getter": [0, "key"]},
        ),
        (Parameter("url", AppEndpoint(app_name="a", public=True)), {"kind": "endpoint", "app_name": "a"}),
    ],
)
def test_every_kind_of_parameter_has_its_spec(parameter: Parameter, spec: dict[str, Any]) -> None:
    made = parameter.to_wire()
    assert {key: getattr(made, key) for key in spec} == spec


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="parameter name '1 a' must be"):
        Parameter("1 a")
    with pytest.raises(ValueError, match="environment variable"):
        Parameter("a", env_var="A-B")
    with pytest.raises(TypeError, match="'a' is text, a File"):
        Parameter("a", 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="either run_name or task_name"):
        Parameter("a", RunOutput()).to_wire()
    spec = Parameter("a", flyte.app.ArtifactValue("model", type="directory")).to_wire()
    assert (spec.kind, spec.artifact, spec.artifact_version, spec.artifact_type) == ("artifact", "model", None, "dir")
    with pytest.raises(ValueError, match="artifact name 'my model' must be 1 to 200 letters"):
        flyte.app.ArtifactValue("my model")


def test_an_apps_process_reads_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no parameter 'a'; it has none"):
        flyte.app.get_parameter("a")
    monkeypatch.setenv("FLYTE_PARAMETERS", json.dumps({"a": "1"}))
    assert flyte.app.get_parameter("a") == "1"
    with pytest.raises(ValueError, match="no parameter 'b'; it has a"):
        flyte.app.get_parameter("b")
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps({"b": "2"}))
    monkeypatch.setenv("FLYTE_PARAMETERS_FILE", str(file))
    assert flyte.app.get_parameter("b") == "2"


def test_an_apps_process_knows_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flyte.app.ctx().mode == "local"
    monkeypatch.setenv("FLYTE_UNIT", "u1")
    monkeypatch.setenv("FLYTE_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("FLYTE_APP_NAME", "me")
    context = flyte.app.ctx()
    assert (context.mode, context.name, context.project) == ("remote", "me", "flytesnacks")


# ----------------------------------------------------------------------------------------------------------- endpoints


def test_a_process_of_the_platform_was_told_where_apps_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_APP_ENDPOINTS", json.dumps({"backend-api": "http://127.0.0.1:30101/"}))
    assert backend.endpoint == "http://127.0.0.1:30101"


def test_an_app_that_this_process_serves_answers_here() -> None:
    set_local_endpoint("backend-api", "http://127.0.0.1:5005")
    try:
        assert backend.endpoint == "http://127.0.0.1:5005"
    finally:
        set_local_endpoint("backend-api", None)


def test_any_other_process_asks_the_platform(connected: FakePlatform) -> None:
    connected.apps["backend-api"] = wire.App(
        project="flytesnacks",
        domain="development",
        name="backend-api",
        version="v1",
        status=wire.AppStatus.ACTIVE,
        url="http://127.0.0.1:30102",
    )
    assert backend.endpoint == "http://127.0.0.1:30102"


def test_without_a_platform_it_says_what_to_do() -> None:
    with pytest.raises(InitializationError, match="init_from_config"):
        _ = backend.endpoint

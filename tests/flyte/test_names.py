"""Every name of Flyte's API is here, or says that it is not and what to do instead."""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte import errors
from flyte._absent import ABSENT, Absent
from flyte._sync import Streamable, Syncable

NAMES: dict[str, str] = {
    "flyte": """
    TaskEnvironment Environment Image Resources Secret SecretRequest Cache CachePolicy CacheRequest RetryStrategy
    Backoff Timeout TimeoutType ReusePolicy Trigger Cron FixedRate OnArtifact TriggerTime TriggeredArtifact
    TriggeredPartition PodTemplate Documentation Link Device DeviceClass GPU TPU Neuron AMD_GPU HABANA_GAUDI
    APPLE_SILICON init init_from_config init_from_api_key init_in_cluster init_passthrough run with_runcontext rerun
    serve with_servecontext deploy build build_images run_python_script map trace group ctx custom_context
    get_custom_context new_condition latest_checkpoint current_project current_domain version
    is_control_plane_available load_interactive_ctx load_plugin_config AppHandle TaskTemplate
    AsyncFunctionTaskTemplate Checkpoint BaseCheckpoint ConditionWebhook ImageBuild logger system_logger app remote
    io errors types report storage config extras extend notify artifacts durable connectors git models prefetch
    sandbox syncify ai clustered
    """,
    "flyte.app": """
    AppEnvironment AppEndpoint ArtifactValue ConnectorEnvironment DeployedAppEnvironment Domain Link Parameter Port
    RunOutput Scaling Subdomain Timeouts ctx get_parameter
    """,
    "flyte.app.extras": """
    FastAPIAppEnvironment FastAPIPassthroughAuthMiddleware FlyteWebhookAppEnvironment
    """,
    "flyte.remote": """
    Action ActionDetails ActionInputs ActionOutputs App Artifact Condition PartitionSchema Project Run RunDetails
    Secret SecretTypes Settings Task TaskDetails TimeFilter Trigger TriggerDetails User auth_metadata upload_dir
    upload_file
    """,
    "flyte.io": """
    File Dir DataFrame EmptyDir HashFunction PARQUET
    """,
    "flyte.report": """
    get_tab log replace flush Timeline abbreviate duration_ms
    """,
    "flyte.models": """
    ActionID ActionPhase TaskContext CodeBundle NativeInterface SerializationContext
    """,
    "flyte.extend": """
    Architecture AsyncFunctionTaskTemplate ImageBuildEngine ImageBuilder ImageChecker PRIMARY_CONTAINER_DEFAULT_NAME
    TaskPluginRegistry TaskTemplate download_code_bundle get_proto_extended_resources get_proto_resources
    is_initialized lazy_module pod_spec_from_resources
    """,
    "flyte.types": """
    FlytePickle Renderable TypeEngine TypeTransformer TypeTransformerFailedError guess_interface literal_string_repr
    """,
    "flyte.config": """
    Config auto get_config_file set_if_exists
    """,
    "flyte.errors": """
    BaseRuntimeError InitializationError RuntimeSystemError UnionRpcError SlowDownError ResourceExhaustedError
    RuntimeUnknownError RuntimeUserError OOMError TaskInterruptedError PrimaryContainerNotFoundError
    TaskTimeoutError MaxRuntimeExceededError MaxQueuedTimeExceededError DeadlineExceededError RetriesExhaustedError
    InvalidImageNameError ImagePullBackOffError CustomError NotInTaskContextError RemoteTaskNotFoundError
    RemoteTaskUsageError RuntimeDataValidationError DeploymentError ImageBuildError ModuleLoadError
    InlineIOMaxBytesBreached ActionAbortedError OnlyAsyncIOSupportedError ParameterMaterializationError
    RestrictedTypeError CodeBundleError SyncTaskCallInAsyncContextError TraceDoesNotAllowNestedTasksError
    InvalidPackageError NonRecoverableError ConditionTimedoutError ConditionFailedError ConditionNotFoundError
    ConditionAlreadyExistsError ActionNotFoundError LogsNotYetAvailableError
    """,
    "flyte.Image": """
    from_debian_base from_base from_ref_name from_uv_script from_pixi_script from_dockerfile clone with_pip_packages
    with_requirements with_apt_packages with_commands with_env_vars with_workdir with_source_folder with_source_file
    with_uv_project with_poetry_project with_pixi_project with_code_bundle with_dockerignore uri
    """,
    "flyte.Trigger": """
    hourly daily weekly monthly minutely
    """,
    "flyte.TaskEnvironment": """
    task tasks clone_with from_task add_dependency sandbox
    """,
    "flyte.TaskTemplate": """
    aio execute forward func override name short_name interface native_interface json_schema source_file
    max_inline_io_bytes
    """,
    "flyte._context.TaskContext": """
    action version raw_data_path input_path output_path run_base_dir report group_data checkpoint_paths code_bundle
    compiled_image_cache data mode interactive_mode custom_context disable_run_cache run_start_time task_action
    checkpoint attempt_number is_in_cluster
    """,
    "flyte.remote.Task": """
    get listall
    """,
    "flyte.remote.LazyEntity": """
    name fetch override
    """,
    "flyte.remote.TaskDetails": """
    get fetch name version task_type default_input_args required_args interface cache secrets resources queue
    override overridden to_dict to_json
    """,
    "flyte.remote.Run": """
    name phase raw_phase url action get listall wait watch outputs inputs typed_outputs typed_inputs output_literals
    input_literals details abort get_logs show_logs get_report first_failure raise_for_status code_bundle
    download_code get_debug_url done sync to_dict to_json
    """,
    "flyte.remote.Action": """
    get listall name run_name task_name parent_name phase raw_phase relation start_time action_id abort show_logs
    get_logs get_report download_code wait watch details sync to_dict to_json
    """,
    "flyte.remote.ActionDetails": """
    error_info error_message abort_info runtime attempts metadata is_running phase_durations queued_time
    waiting_for_resources_time initializing_time running_time get_phase_transitions logs_available code_bundle
    inputs outputs watch_updates status to_dict
    """,
    "flyte.remote.App": """
    get listall create replace update delete activate deactivate watch show_logs is_active is_deactivated name
    revision endpoint url deployment_status desired_state ephemeral_ctx ephemeral_ctx_sync to_dict to_json
    """,
    "flyte.remote.Secret": """
    create get listall delete to_dict to_json
    """,
    "flyte.remote.Project": """
    get create update listall archive unarchive to_dict to_json
    """,
    "flyte.remote.User": """
    get subject name to_dict
    """,
    "flyte.io.File": """
    new_remote named_remote from_existing_remote from_local from_local_sync open open_sync download download_sync
    exists exists_sync
    """,
    "flyte.io.Dir": """
    from_local from_local_sync from_existing_remote new_remote walk list_files get_file download exists walk_sync
    list_files_sync get_file_sync download_sync exists_sync is_empty empty
    """,
    "flyte.app.AppEnvironment": """
    server on_startup on_shutdown clone_with endpoint
    """,
}
"""Module or class → the names that Flyte 2 has in it."""

PAIRS = [(owner, name) for owner, names in NAMES.items() for name in names.split()]
ABSENT_NAMES = [(owner, name) for owner, names in ABSENT.items() if owner.islower() for name in names]
ABSENT_MODULES = sorted(file.stem for file in Path(flyte.__path__[1]).glob("*.py"))
HANDLE = "name url endpoint is_active is_deactivated activate deactivate ephemeral_ctx ephemeral_ctx_sync"


def owner_of(path: str) -> Any:
    """The module or class of that name."""
    found: Any = flyte
    for part in path.split(".")[1:]:
        found = getattr(found, part) if hasattr(found, part) else importlib.import_module(f"{found.__name__}.{part}")
    return found


def has(owner: Any, name: str) -> bool:
    """Whether the module or the class's instances have it."""
    if hasattr(owner, name) or name in getattr(owner, "__dataclass_fields__", ()):
        return True
    return inspect.isclass(owner) and f"self.{name}" in inspect.getsource(owner.__init__)


@pytest.mark.parametrize(("owner", "name"), PAIRS, ids=[".".join(pair) for pair in PAIRS])
def test_a_name_of_flytes_is_here_or_says_what_to_do_instead(owner: str, name: str) -> None:
    thing = owner_of(owner)
    if name not in ABSENT.get(owner, {}):
        assert has(thing, name)
        return
    assert not hasattr(thing, name)
    with pytest.raises(AttributeError) as told:
        getattr(thing, name)
    assert f"{owner}.{name}" in str(told.value)
    assert "docs/limits.md" in str(told.value)


@pytest.mark.parametrize(("owner", "name"), ABSENT_NAMES)
def test_an_absent_name_says_so_when_it_is_imported_from_its_module(owner: str, name: str) -> None:
    with pytest.raises(ImportError) as told:
        exec(f"from {owner} import {name}")
    assert f"Tarmac does not have {owner}.{name}: {ABSENT[owner][name]}" in str(told.value)


@pytest.mark.parametrize("statement", ["import flyte.{}", "import flyte.{}.more", "from flyte.{} import Thing"])
@pytest.mark.parametrize("module", ABSENT_MODULES)
def test_an_absent_module_says_so_when_it_is_imported(module: str, statement: str) -> None:
    with pytest.raises(ModuleNotFoundError) as told:
        exec(statement.format(module))
    assert str(told.value).startswith(f"Tarmac does not have flyte.{module}: ")
    assert f"flyte.{module}" not in sys.modules


def test_every_module_of_flytes_that_is_absent_has_its_file() -> None:
    """In Flyte the other absent names of `flyte` are functions and classes."""
    modules = {name for name in ABSENT["flyte"] if name.islower()} - {
        "load_interactive_ctx", "load_plugin_config", "new_condition", "run_python_script",
    }  # fmt: skip
    assert set(ABSENT_MODULES) == modules


def test_other_names_get_pythons_own_words() -> None:
    with pytest.raises(ImportError, match=r"cannot import name 'nonsense' from 'flyte\.io'"):
        exec("from flyte.io import nonsense")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'flyte\.nonsense'"):
        exec("import flyte.nonsense")


def test_the_list_of_what_is_absent_has_only_names_of_flytes() -> None:
    assert {(owner, name) for owner, names in ABSENT.items() for name in names} <= set(PAIRS)


def test_the_limits_name_everything_that_is_absent() -> None:
    limits = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    assert [name for names in ABSENT.values() for name in names if f"`{name}`" not in limits] == []


def test_a_class_says_so_for_its_instances_too() -> None:
    env = flyte.TaskEnvironment("absent")
    with pytest.raises(AttributeError, match=r"flyte\.TaskEnvironment\.sandbox"):
        env.sandbox  # noqa: B018
    assert getattr(env, "sandbox", None) is None
    assert isinstance(vars(flyte.TaskEnvironment)["sandbox"], Absent)


@pytest.mark.parametrize("kind", typing.get_args(flyte.AppHandle))
def test_both_kinds_of_app_handles_have_all_of_its_names(kind: type) -> None:
    assert [name for name in HANDLE.split() if not has(kind, name)] == []


@pytest.mark.parametrize(
    "name",
    ["SlowDownError", "ResourceExhaustedError", "UnionRpcError", "GPUFaultUserError", "AppleSiliconMemoryError"],
)
def test_an_except_that_names_a_class_of_flytes_lets_other_errors_through(name: str) -> None:
    def work() -> None:
        try:
            raise KeyError("the real one")
        except getattr(errors, name):
            raise AssertionError(name) from None

    with pytest.raises(KeyError, match="the real one"):
        work()


def test_another_name_is_no_error_class() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nope'"):
        errors.Nope  # noqa: B018


def test_every_error_class_says_when_it_is_raised() -> None:
    for cls in errors.by_code().values():
        assert cls.__doc__, cls


def test_errors_that_cross_a_process_keep_their_class() -> None:
    for name in ("UnionRpcError", "SlowDownError", "ResourceExhaustedError"):
        assert type(errors.make(name, "user", "no")) is getattr(errors, name)


def test_small_modules_are_where_programs_look_for_them() -> None:
    from flyte.config import Config, auto
    from flyte.models import ActionID, ActionPhase, TaskContext

    assert isinstance(auto(), Config)
    assert ActionPhase("running") is ActionPhase.RUNNING
    assert isinstance(flyte.ctx(), TaskContext)
    assert isinstance(flyte.ctx().action, ActionID)


async def test_a_function_of_ones_own_gets_both_forms() -> None:
    from flyte.syncify import syncify

    @syncify
    async def double(x: int) -> int:
        return 2 * x

    @syncify
    async def numbers(n: int) -> Any:
        for i in range(n):
            yield i

    class Client:
        @syncify
        @classmethod
        async def get(cls, name: str) -> str:
            return f"{cls.__name__} {name}"

        @syncify
        @staticmethod
        async def static(x: int) -> int:
            return x

        @syncify
        async def method(self, x: int) -> int:
            return x + 1

    assert isinstance(double, Syncable)
    assert isinstance(numbers, Streamable)
    assert await double.aio(2) == 4
    assert [n async for n in numbers(3)] == [0, 1, 2]
    assert await typing.cast("Any", Client).get.aio("a") == "Client a"
    assert await Client().method.aio(1) == 2
    assert await Client.static.aio(3) == 3
    with pytest.raises(TypeError, match="takes async functions"):
        syncify(typing.cast("Any", len))


def test_a_function_of_ones_own_waits_when_it_is_called() -> None:
    from flyte.syncify import syncify

    @syncify
    async def double(x: int) -> int:
        return 2 * x

    assert double(3) == 6

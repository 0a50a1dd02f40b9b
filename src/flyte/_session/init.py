"""The `init…` functions: each makes a plan, and puts the state that it leads to in force for this process.

In a process of the platform, where the environment says everything, an `init…` costs microseconds, and may run while a
module is imported. The rest of the package asks `state` for what is in force.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from flyte import _plugins
from flyte._session import config as _config
from flyte._session.config import Config
from flyte._session.plan import Plan, State, given, in_cluster, settled, under, with_api_key
from flyte._session.state import current, install, is_remote, on_platform
from flyte.errors import InitializationError
from flyte.object_store import Storage

P = ParamSpec("P")
R = TypeVar("R")


class Initializer(Generic[P, R]):
    """An `init…` function: call it, or await its `.aio`. It waits only to find or start this machine's platform."""

    def __init__(self, plan: Callable[P, Plan], result: Callable[[State], R]) -> None:
        self._plan = plan
        self._result = result
        functools.update_wrapper(self, plan)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._result(_in_force(self._plan(*args, **kwargs)))

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        plan = self._plan(*args, **kwargs)
        return self._result(install(await asyncio.to_thread(settled, plan)) if plan.must_search else _in_force(plan))


def _in_force(plan: Plan) -> State:
    """Put the state of the plan in force, and return it."""
    return install(current() if plan.keep else settled(plan))


def _nothing(state: State) -> None:
    return None


def _applied(state: State) -> dict[str, Any]:
    return dict(state.applied)


def initializer(plan: Callable[P, Plan]) -> Initializer[P, None]:
    return Initializer(plan, _nothing)


@initializer
def init(
    org: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    root_dir: str | Path | None = None,
    log_level: int | str | None = None,
    log_format: str | None = None,
    reset_root_logger: bool = False,
    user_log_level: int | str | None = None,
    endpoint: str | None = None,
    headless: bool = False,
    insecure: bool | None = None,
    insecure_skip_verify: bool | None = None,
    ca_cert_file_path: str | None = None,
    auth_type: str | None = None,
    command: list[str] | None = None,
    proxy_command: list[str] | None = None,
    api_key: str | None = None,
    client_id: str | None = None,
    client_credentials_secret: str | None = None,
    auth_client_config: Any = None,
    rpc_retries: int = 3,
    http_proxy_url: str | None = None,
    disable_keyring: bool = False,
    storage: Storage | None = None,
    batch_size: int = 1000,
    image_builder: str | None = None,
    images: Any = None,
    image_registry: str | None = None,
    source_config_path: Path | None = None,
    sync_local_sys_paths: bool = True,
    load_plugin_type_transformers: bool = True,
    local_persistence: bool = False,
    local_tracked: bool = False,
    local_tracked_strict: bool = False,
    scopes: list[str] | None = None,
) -> Plan:
    """Use the platform at `endpoint`, or that of `api_key`; with neither, run everything in this process.

    `client_credentials_secret` is sent as the key where there is no `api_key`. `storage` are the settings of object
    stores (`flyte.storage.S3`, …); without them the environment names them. `batch_size`, `images`,
    `image_builder`, `image_registry`, `headless`, `proxy_command`, `client_id`, `auth_client_config`, `rpc_retries`,
    `disable_keyring`, `scopes` and the `local_…` switches are Flyte's and change nothing here. With
    `load_plugin_type_transformers=False` plugins register no types in this process.
    """
    _set_up_logging(log_level, user_log_level, log_format)
    if not load_plugin_type_transformers:
        _plugins.leave_types_out()
    _say_no_effect(
        images=images, image_builder=image_builder, image_registry=image_registry, scopes=scopes,
        local_persistence=local_persistence, local_tracked=local_tracked, local_tracked_strict=local_tracked_strict,
    )  # fmt: skip
    key = api_key or client_credentials_secret
    config = given(
        Config(), org=org, project=project, domain=domain, endpoint=endpoint, insecure=insecure,
        insecure_skip_verify=insecure_skip_verify, ca_cert_file_path=ca_cert_file_path, auth_type=auth_type,
        command=tuple(command) if command else None, api_key=key, http_proxy_url=http_proxy_url,
    )  # fmt: skip
    config = with_api_key(config)
    remote = config.endpoint is not None or key is not None
    if remote or on_platform():
        config = under(config, _config.from_mapping({}, os.environ))
    return Plan(
        config, "remote" if remote or on_platform() else "local", _path(root_dir), sync_local_sys_paths, storage
    )


@initializer
def init_from_config(
    path_or_config: str | Path | Config | None = None,
    root_dir: str | Path | None = None,
    log_level: int | str | None = None,
    log_format: str | None = None,
    user_log_level: int | str | None = None,
    org: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    storage: Storage | None = None,
    batch_size: int = 1000,
    image_builder: str | None = None,
    images: Any = None,
    sync_local_sys_paths: bool = True,
) -> Plan:
    """Use the platform that a config file or FLYTE_ENDPOINT names; else that of this machine, started where it sleeps.

    Raises InitializationError for a `path` that does not exist, code `ConfigFileNotFoundError`. `storage`:
    see `init`. `batch_size`, `image_builder` and `images` are Flyte's and change nothing here.
    """
    _set_up_logging(log_level, user_log_level, log_format)
    _say_no_effect(images=images, image_builder=image_builder)
    root = _path(root_dir)
    if isinstance(path_or_config, Config):
        config = _config_of_file(path_or_config)
    elif on_platform():  # the file stayed on the machine that deployed the code
        config = _config.from_mapping({}, os.environ)
    else:
        config = _config.load(path_or_config, root)
    config = with_api_key(given(config, org=org, project=project, domain=domain))
    return Plan(config, "remote", root, sync_local_sys_paths, storage, announce=True)


@initializer
def init_from_api_key(
    api_key: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    root_dir: str | Path | None = None,
    log_level: int | str | None = None,
    log_format: str | None = None,
    storage: Storage | None = None,
    batch_size: int = 1000,
    image_builder: str | None = None,
    images: Any = None,
    sync_local_sys_paths: bool = True,
    insecure_skip_verify: bool | None = None,
    ca_cert_file_path: str | None = None,
) -> Plan:
    """Use the platform with `api_key`, by default FLYTE_API_KEY.

    A key in Flyte's form (base64 of `endpoint:client_id:secret:org`) names the platform; for one of ours (`tk_…`)
    FLYTE_ENDPOINT, the config file or this machine does. Raises InitializationError without a key.
    """
    _set_up_logging(log_level, None, log_format)
    _say_no_effect(images=images, image_builder=image_builder)
    config = given(
        _config.load(), project=project, domain=domain, insecure_skip_verify=insecure_skip_verify,
        ca_cert_file_path=ca_cert_file_path,
    )  # fmt: skip
    key = api_key or config.api_key
    if not key:
        raise InitializationError(
            "MissingApiKeyError", "user", "no API key was given: pass api_key=, or set FLYTE_API_KEY"
        )
    read = _config.read_api_key(key)
    config = given(config, api_key=read.token, endpoint=read.endpoint, org=read.org)
    return Plan(config, "remote", _path(root_dir), sync_local_sys_paths, storage)


def _init_in_cluster(
    org: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    api_key: str | None = None,
    endpoint: str | None = None,
    insecure: bool | None = None,
) -> Plan:
    """Use the platform that runs this process; off the platform, the one that is configured or this machine's.

    Returns the settings that were applied. Cheap, and the same however often it is called.
    """
    return in_cluster(
        is_remote(), org=org, project=project, domain=domain, api_key=api_key, endpoint=endpoint, insecure=insecure
    )


def _init_passthrough(
    endpoint: str | None = None,
    org: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    insecure: bool | None = None,
) -> Plan:
    """Use the platform without a key of our own: each call carries what `remote.auth_metadata` put in scope.

    Returns the settings that were applied.
    """
    config = _config.from_mapping({}, os.environ)
    if endpoint is None and config.endpoint is None:
        config = _config.load()
    config = given(config, endpoint=endpoint, org=org, project=project, domain=domain, insecure=insecure)
    return Plan(config, passthrough=True)


init_in_cluster = Initializer(_init_in_cluster, _applied)
init_passthrough = Initializer(_init_passthrough, _applied)


def _config_of_file(config: Config) -> Config:
    return under(_config.from_mapping({}, os.environ), config)


def _path(root: str | Path | None) -> Path | None:
    return Path(root).expanduser().resolve() if root is not None else None


def _set_up_logging(level: int | str | None, user_level: int | str | None, log_format: str | None) -> None:
    """Set up logging if one of the options was given; otherwise the program sets it up itself."""
    if level is not None or user_level is not None or log_format is not None:
        from flyte._logging import configure

        configure(level, user_level, log_format)


def _say_no_effect(**options: Any) -> None:
    """Warn of options that are Flyte's and change nothing here; raise InvalidInputError where FLYTE_STRICT says so."""
    if any(options.values()):
        from flyte._declare import no_effect as _no_effect

        notes = _no_effect.of_call("flyte.init()", options)
        _no_effect.refuse(notes, None)
        _no_effect.say(map(str, notes))

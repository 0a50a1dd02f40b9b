"""Who do we talk to? `init…` decides it once for the process; everybody else asks `client()`, `current()`,
`root_dir()`.

Each `init…` is a *plan*, made of its arguments, the environment and the config file; nothing is connected. Only a plan
that names no platform searches this machine for one, and starts it where there is none. So in a process of the
platform, where the environment says everything, an `init…` costs microseconds, and may run while a module is imported.

With nothing initialised, a process of the platform talks to its platform, and any other is in local mode: tasks run in
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, TypeVar

from flyte import wire
from flyte._client.client import Client
from flyte._session import config as _config
from flyte._session import find as _platform
from flyte._session.config import Config
from flyte.errors import InitializationError
from flyte.official import refuse_official

P = ParamSpec("P")
R = TypeVar("R")

_COMMAND_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class State:
    """What is in force."""

    mode: Literal["local", "remote"]
    client: Client | None = None
    project: str = wire.DEFAULT_PROJECT
    domain: str = wire.DEFAULT_DOMAIN
    org: str | None = None
    root_dir: Path | None = None
    """As it was given; None leaves it to `root_dir()`."""
    sync_local_sys_paths: bool = True
    applied: dict[str, Any] = field(default_factory=dict)
    """The settings that were found, without the key."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an `init…` wants."""

    config: Config
    mode: Literal["local", "remote"] = "remote"
    root_dir: Path | None = None
    sync_local_sys_paths: bool = True
    passthrough: bool = False
    """Send no key of our own."""
    announce: bool = False
    """Say in any case that the platform of this machine is used."""
    keep: bool = False
    """A platform that is in force already will do."""

    @property
    def must_search(self) -> bool:
        return self.mode == "remote" and self.config.endpoint is None and not (self.keep and _is_remote())


class Initializer(Generic[P, R]):
    """An `init…` function: call it, or await its `.aio`. It waits only to find or start this machine's platform."""

    def __init__(self, plan: Callable[P, Plan], result: Callable[[State], R]) -> None:
        self._plan = plan
        self._result = result
        functools.update_wrapper(self, plan)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._result(_install(_settled(self._plan(*args, **kwargs))))

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        plan = self._plan(*args, **kwargs)
        state = await asyncio.to_thread(_settled, plan) if plan.must_search else _settled(plan)
        return self._result(_install(state))


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
    storage: Any = None,
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

    `client_credentials_secret` is sent as the key where there is no `api_key`. `storage`, `batch_size`, `images`,
    `image_builder`, `image_registry`, `headless`, `proxy_command`, `client_id`, `auth_client_config`, `rpc_retries`,
    `disable_keyring`, `scopes` and the `local_…` switches are Flyte's and change nothing here.
    """
    _set_up_logging(log_level, user_log_level, log_format)
    _say_no_effect(
        storage=storage, images=images, image_builder=image_builder, image_registry=image_registry, scopes=scopes,
        local_persistence=local_persistence, local_tracked=local_tracked, local_tracked_strict=local_tracked_strict,
    )  # fmt: skip
    key = api_key or client_credentials_secret
    config = _given(
        Config(), org=org, project=project, domain=domain, endpoint=endpoint, insecure=insecure,
        insecure_skip_verify=insecure_skip_verify, ca_cert_file_path=ca_cert_file_path, auth_type=auth_type,
        command=tuple(command) if command else None, api_key=key, http_proxy_url=http_proxy_url,
    )  # fmt: skip
    config = _with_api_key(config)
    remote = config.endpoint is not None or key is not None
    if remote or on_platform():
        config = _under(config, _config.from_mapping({}, os.environ))
    return Plan(config, "remote" if remote or on_platform() else "local", _path(root_dir), sync_local_sys_paths)


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
    storage: Any = None,
    batch_size: int = 1000,
    image_builder: str | None = None,
    images: Any = None,
    sync_local_sys_paths: bool = True,
) -> Plan:
    """Use the platform that a config file or FLYTE_ENDPOINT names; else that of this machine, started where it sleeps.

    Raises InitializationError for a `path` that does not exist, code `ConfigFileNotFoundError`. `storage`,
    `batch_size`, `image_builder` and `images` are Flyte's and change nothing here.
    """
    _set_up_logging(log_level, user_log_level, log_format)
    _say_no_effect(storage=storage, images=images, image_builder=image_builder)
    root = _path(root_dir)
    if isinstance(path_or_config, Config):
        config = _config_of_file(path_or_config)
    elif on_platform():  # the file stayed on the machine that deployed the code
        config = _config.from_mapping({}, os.environ)
    else:
        config = _config.load(path_or_config, root)
    config = _with_api_key(_given(config, org=org, project=project, domain=domain))
    return Plan(config, "remote", root, sync_local_sys_paths, announce=True)


@initializer
def init_from_api_key(
    api_key: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    root_dir: str | Path | None = None,
    log_level: int | str | None = None,
    log_format: str | None = None,
    storage: Any = None,
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
    _say_no_effect(storage=storage, images=images, image_builder=image_builder)
    config = _given(
        _config.load(), project=project, domain=domain, insecure_skip_verify=insecure_skip_verify,
        ca_cert_file_path=ca_cert_file_path,
    )  # fmt: skip
    key = api_key or config.api_key
    if not key:
        raise InitializationError(
            "MissingApiKeyError", "user", "no API key was given: pass api_key=, or set FLYTE_API_KEY"
        )
    read = _config.read_api_key(key)
    config = _given(config, api_key=read.token, endpoint=read.endpoint, org=read.org)
    return Plan(config, "remote", _path(root_dir), sync_local_sys_paths)


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
    config = _given(
        _config.from_mapping({}, os.environ), org=org, project=project, domain=domain, api_key=api_key,
        endpoint=endpoint, insecure=insecure,
    )  # fmt: skip
    alone = not any((org, project, domain, api_key, endpoint))
    keep = alone and config.endpoint is None and _is_remote()
    if config.endpoint is None and not keep:
        config = _given(_under(config, _config.load()))
    return Plan(_with_api_key(config), keep=keep)


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
    config = _given(config, endpoint=endpoint, org=org, project=project, domain=domain, insecure=insecure)
    return Plan(config, passthrough=True)


init_in_cluster = Initializer(_init_in_cluster, _applied)
init_passthrough = Initializer(_init_passthrough, _applied)

# ----------------------------------------------------------------------------------------------- what is in force

_state: State | None = None
_override: ContextVar[State | None] = ContextVar("flyte_state", default=None)


def current() -> State:
    """The state in force: this context's, else the process's, else what the process is by itself."""
    state = _override.get() or _state
    if state is not None:
        return state
    if on_platform():
        init_in_cluster()
        return _state or State("local")
    return State("local")


@contextlib.contextmanager
def using(state: State) -> Iterator[State]:
    """Put `state` in force for the block, and what it starts with this context."""
    token = _override.set(state)
    try:
        yield state
    finally:
        _override.reset(token)


def client() -> Client:
    """The platform in force. Raises InitializationError, code `ClientNotInitializedError`, in local mode."""
    found = current().client
    if found is None:
        raise InitializationError(
            "ClientNotInitializedError",
            "user",
            "no platform is in force here; call flyte.init_from_config() first (it finds or starts one)",
        )
    return found


def is_initialized() -> bool:
    return (_override.get() or _state) is not None


def is_control_plane_available() -> bool:
    """Whether `flyte.run` here goes to a platform, rather than run in this process. Asks nobody."""
    return current().client is not None


def current_project() -> str:
    """The project that we work in. Raises InitializationError before any `init…`, outside the platform."""
    return _scope("project")


def current_domain() -> str:
    """The domain that we work in. Raises InitializationError before any `init…`, outside the platform."""
    return _scope("domain")


def _scope(name: Literal["project", "domain"]) -> str:
    from flyte._context import ctx

    action: str | None = getattr(ctx().action, name)
    if action:
        return action
    if not is_initialized() and not on_platform():
        raise InitializationError(
            "NotInitializedError",
            "user",
            f"no {name} is set; call flyte.init(project=…, domain=…) or init_from_config()",
        )
    scope: str = getattr(current(), name)
    return scope


def root_dir() -> Path:
    """The folder whose code is shipped: as given, else the current one or, where the script is elsewhere, its own."""
    here = Path.cwd()
    if on_platform():  # the bundle was unpacked here, whatever root it had where it was made
        return here
    given = current().root_dir
    if given is not None:
        return given
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    script = Path(file).resolve() if file else None
    if script is None or script.is_relative_to(here) or not _is_users(script):
        return here
    return script.parent


def _is_users(script: Path) -> bool:
    """Not a program that was installed, such as pytest or the `flyte` command."""
    installed = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(__file__).resolve().parents[1])
    return not any(script.is_relative_to(folder) for folder in installed)


def on_platform() -> bool:
    """Whether a platform started this process."""
    return "FLYTE_UNIT" in os.environ and "FLYTE_ENDPOINT" in os.environ


def _is_remote() -> bool:
    state = _override.get() or _state
    return state is not None and state.client is not None


# ------------------------------------------------------------------------------------------ from plan to state


def _settled(plan: Plan) -> State:
    """The state that `plan` leads to. Blocks where the platform of this machine must be found."""
    refuse_official()
    if plan.keep and _is_remote():
        return current()
    config = plan.config
    if plan.mode == "local":
        return _state_of(plan, config, None)
    if config.endpoint is None:
        found = _platform.find_or_start()
        _announce(found, plan.announce)
        config = replace(config, endpoint=found.endpoint, api_key=config.api_key or found.token)
    endpoint = _config.normal_endpoint(config.endpoint or "", config.insecure)
    token = None if plan.passthrough else _key(config, endpoint)
    client = Client(
        endpoint,
        token,
        config.project or wire.DEFAULT_PROJECT,
        config.domain or wire.DEFAULT_DOMAIN,
        ca_file=config.ca_cert_file_path,
        verify=not config.insecure_skip_verify,
        proxy=config.http_proxy_url,
        shortcut=None if config.http_proxy_url else _platform.shortcut(endpoint),
    )
    return _state_of(plan, replace(config, endpoint=endpoint), client)


def _state_of(plan: Plan, config: Config, client: Client | None) -> State:
    names = ("endpoint", "org", "project", "domain", "insecure")
    return State(
        mode=plan.mode,
        client=client,
        project=config.project or wire.DEFAULT_PROJECT,
        domain=config.domain or wire.DEFAULT_DOMAIN,
        org=config.org,
        root_dir=plan.root_dir,
        sync_local_sys_paths=plan.sync_local_sys_paths,
        applied={name: getattr(config, name) for name in names if getattr(config, name) is not None},
    )


def _install(state: State) -> State:
    global _state
    if state.root_dir is not None and str(state.root_dir) not in sys.path:
        sys.path.append(str(state.root_dir))
    _state = state
    return state


def _given(config: Config, **values: Any) -> Config:
    """`config` with every value that is not None in place of its own."""
    return replace(config, **{name: value for name, value in values.items() if value is not None})


def _under(config: Config, below: Config) -> Config:
    """`below`, with all that `config` says on top."""
    said = {name: getattr(config, name) for name in Config.__dataclass_fields__}
    return _given(below, **said)


def _config_of_file(config: Config) -> Config:
    return _under(_config.from_mapping({}, os.environ), config)


def _with_api_key(config: Config) -> Config:
    """A key in Flyte's form also names the platform, where nothing else does."""
    if config.api_key is None:
        return config
    read = _config.read_api_key(config.api_key)
    return replace(config, api_key=read.token, endpoint=config.endpoint or read.endpoint, org=config.org or read.org)


def _key(config: Config, endpoint: str) -> str | None:
    if config.distrust is not None:
        raise InitializationError("UntrustedConfigError", "user", config.distrust)
    return config.api_key or _key_from_command(config) or _platform.owner_token(endpoint)


def _key_from_command(config: Config) -> str | None:
    """What the configured program prints: `auth_type: ExternalCommand`."""
    if not config.command or (config.auth_type or "ExternalCommand").lower() != "externalcommand":
        return None
    try:
        done = subprocess.run(
            config.command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InitializationError(
            "NotAuthenticatedError", "user", f"the command for the key failed: {' '.join(config.command)}: {error}"
        ) from None
    return done.stdout.strip() or None


_announced: set[str] = set()


def _announce(found: _platform.Found, always: bool) -> None:
    """One line for each platform and process, on stderr."""
    if found.endpoint in _announced:
        return
    if found.started:
        line = f"flyte: started the local platform at {found.endpoint} (stop it with 'flyte down')"
    elif always or os.environ.get("FLYTE_VERBOSE") or sys.stderr.isatty():
        line = f"flyte: using the local platform at {found.endpoint}"
    else:
        return
    _announced.add(found.endpoint)
    print(line, file=sys.stderr, flush=True)


def _path(root: str | Path | None) -> Path | None:
    return Path(root).expanduser().resolve() if root is not None else None


def _set_up_logging(level: int | str | None, user_level: int | str | None, log_format: str | None) -> None:
    """Only for who asked for it; otherwise logging is the program's own affair."""
    if level is not None or user_level is not None or log_format is not None:
        from flyte._logging import configure

        configure(level, user_level, log_format)


def _say_no_effect(**given: Any) -> None:
    """Warn of options that are Flyte's and change nothing here; raise InvalidInputError where FLYTE_STRICT says so."""
    if any(given.values()):
        from flyte._declare import no_effect as _no_effect

        notes = _no_effect.of_call("flyte.init()", given)
        _no_effect.refuse(notes, None)
        _no_effect.say(map(str, notes))

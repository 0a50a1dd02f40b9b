"""The way from a plan to the state that it leads to: the address of the platform, and the key.

A plan is what an `init…` wants, made of its arguments, the environment and the config file; nothing is connected. Only
a plan that names no platform searches this machine for one, and starts it where there is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flyte import wire
from flyte._client.client import Client
from flyte._session import config as _config
from flyte._session import find as _platform
from flyte._session.config import Config
from flyte.errors import InitializationError
from flyte.object_store import Storage
from flyte.official import refuse_official

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
    storage: Storage | None = None
    """The settings of object stores; None leaves them to the environment."""
    applied: dict[str, Any] = field(default_factory=dict)
    """The settings that were found, without the key."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an `init…` wants."""

    config: Config
    mode: Literal["local", "remote"] = "remote"
    root_dir: Path | None = None
    sync_local_sys_paths: bool = True
    storage: Storage | None = None
    passthrough: bool = False
    """Send no key of our own."""
    announce: bool = False
    """Say in any case that the platform of this machine is used."""
    keep: bool = False
    """The platform that is in force stays in force."""

    @property
    def must_search(self) -> bool:
        """Whether the platform of this machine has to be found, or started."""
        return self.mode == "remote" and self.config.endpoint is None and not self.keep


def in_cluster(is_remote: bool = False, **values: str | bool | None) -> Plan:
    """The plan of a process of the platform: its environment names the platform. `values` take precedence.

    In any other process the platform in force stays in force if there is one (`is_remote`); else the config file, or
    this machine, names it.
    """
    config = given(_config.from_mapping({}, os.environ), **values)
    is_named = any(value for name, value in values.items() if name != "insecure")
    keep = is_remote and not is_named and config.endpoint is None
    if config.endpoint is None and not keep:
        config = under(config, _config.load())
    return Plan(with_api_key(config), keep=keep)


def settled(plan: Plan) -> State:
    """The state that `plan` leads to. Blocks where the platform of this machine must be found."""
    refuse_official()
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
        storage=plan.storage,
        applied={name: getattr(config, name) for name in names if getattr(config, name) is not None},
    )


def given(config: Config, **values: Any) -> Config:
    """`config` with every value that is not None in place of its own."""
    return replace(config, **{name: value for name, value in values.items() if value is not None})


def under(config: Config, below: Config) -> Config:
    """`below`, with all that `config` says on top."""
    said = {name: getattr(config, name) for name in Config.__dataclass_fields__}
    return given(below, **said)


def with_api_key(config: Config) -> Config:
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

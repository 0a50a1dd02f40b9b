"""`flyte.serve`: an app, deployed with all that it depends on, and answering when the call returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from flyte import wire
from flyte._declare import no_effect as _no_effect
from flyte._importing import refuse_import
from flyte._local import app as _local_app
from flyte._local.app import LocalApp
from flyte._session import state as _state
from flyte._ship import deploy as _deploy
from flyte._ship.bundle import CopyStyle
from flyte._ship.deploy import Progress
from flyte._sync import syncable
from flyte.app._environment import AppEnvironment
from flyte.errors import InvalidInputError
from flyte.remote._app import App
from flyte.storage._new_files import variables

AppHandle: TypeAlias = App | LocalApp
"""What `serve` gives: name, url, endpoint, is_active, activate, deactivate, ephemeral_ctx."""

Mode = Literal["local", "remote"]


@dataclass(frozen=True, slots=True)
class ServeContext:
    """What `with_servecontext` says; see there."""

    mode: Mode | None = None
    version: str | None = None
    copy_style: CopyStyle = "loaded_modules"
    project: str | None = None
    domain: str | None = None
    env_vars: Mapping[str, str] = field(default_factory=dict)
    parameter_values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dry_run: bool = False
    on_progress: Progress | None = None
    strict: bool | None = None
    no_effect: tuple[_no_effect.Note, ...] = ()
    """What the call declares and is not carried out."""


class Server:
    """Serves apps with some settings: `with_servecontext(…).serve(env)`."""

    def __init__(self, context: ServeContext) -> None:
        self.context = context

    @syncable
    async def serve(self, app_env: AppEnvironment) -> AppHandle:
        """See `flyte.serve`."""
        refuse_import("flyte.serve")
        if not isinstance(app_env, AppEnvironment):
            raise TypeError(f"serve takes an app environment, not {app_env!r}; tasks are run with flyte.run")
        context = self.context
        is_local = context.mode == "local" or (context.mode is None and _state.current().client is None)
        apps = _deploy.closure([app_env]) if is_local else []
        notes = [*context.no_effect, *_no_effect.of_local(apps)]
        _no_effect.refuse(notes, context.strict)
        _no_effect.say(map(str, notes))
        if is_local:
            return await _local_app.serve(apps, _state.root_dir(), context.parameter_values, context.env_vars)
        client = _state.client().scoped(context.project, context.domain)
        planned = _deploy.plan(
            [app_env],
            version=context.version,
            copy_style=context.copy_style,
            project=client.project,
            domain=client.domain,
            parameter_values=context.parameter_values,
            env_vars=context.env_vars,
            strict=context.strict,
        )
        _check_parameters(planned, context.parameter_values)
        if context.dry_run:
            return App(_not_served(planned.request, app_env.name), client)
        await _deploy.send(client, planned, context.on_progress)
        return App(await client.get_app(app_env.name), client)


def _not_served(request: wire.DeployRequest, name: str) -> wire.App:
    """What a dry run gives: everything was checked, and nothing was sent."""
    return wire.App(
        project=request.project,
        domain=request.domain,
        name=name,
        version=request.version,
        status=wire.AppStatus.STOPPED,
        url="",
        message="a dry run: nothing was sent",
    )


def _check_parameters(planned: _deploy.Plan, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Every value must be for a parameter of an app that is deployed. Raises InvalidInputError."""
    known = {spec.name: [parameter.name for parameter in spec.parameters] for spec in planned.request.apps}
    for app, given in values.items():
        if app not in known:
            raise InvalidInputError(f"parameter_values names the app {app!r}; there are: {', '.join(known)}")
        if unknown := sorted(set(given) - set(known[app])):
            takes = ", ".join(known[app]) or "none"
            raise InvalidInputError(f"the app {app!r} has no parameter {unknown[0]!r}; it has: {takes}")


def with_servecontext(
    mode: Mode | None = None,
    *,
    version: str | None = None,
    copy_style: CopyStyle = "loaded_modules",
    dry_run: bool = False,
    project: str | None = None,
    domain: str | None = None,
    env_vars: Mapping[str, str] | None = None,
    parameter_values: Mapping[str, Mapping[str, Any]] | None = None,
    cluster_pool: str | None = None,
    cluster: str | None = None,
    log_level: int | str | None = None,
    log_format: str = "console",
    user_log_level: int | str | None = None,
    interactive_mode: bool | None = None,
    copy_bundle_to: Any = None,
    deactivate_timeout: float | None = None,
    activate_timeout: float | None = None,
    health_check_timeout: float | None = None,
    health_check_interval: float | None = None,
    health_check_path: str | None = None,
    raw_data_path: str | None = None,
    on_progress: Progress | None = None,
    strict: bool | None = None,
) -> Server:
    """A server with settings of its own: `with_servecontext(parameter_values={"app": {"model": "b"}}).serve(env)`.

    `mode="local"` serves from this process, `remote` on the platform; None takes the platform in force, else this
    process. `parameter_values` (app → parameter → value) take the place of the declared ones, `env_vars` reach every
    process of the deployment, `version` and `copy_style` are as for `flyte.deploy`; a `dry_run` checks everything and
    sends nothing. The log settings reach the app as LOG_LEVEL, USER_LOG_LEVEL and LOG_FORMAT.

    Accepted, and without effect here, where readiness is the platform's to see: `cluster_pool`, `cluster`,
    `interactive_mode`, `copy_bundle_to`, the timeouts, the `health_check_…` settings. Each that is
    given is logged as a warning, as is what the app declares without effect; `strict=True` makes it an
    InvalidInputError, and so does FLYTE_STRICT=1 for `strict=None`.
    """
    logs = {
        "LOG_LEVEL": log_level,
        "USER_LOG_LEVEL": user_log_level,
        "LOG_FORMAT": log_format if log_format != "console" else None,
    }
    settings = {key: str(value) for key, value in logs.items() if value is not None}
    given = {
        "cluster_pool": cluster_pool,
        "cluster": cluster,
        "interactive_mode": interactive_mode,
        "copy_bundle_to": copy_bundle_to,
        "deactivate_timeout": deactivate_timeout,
        "activate_timeout": activate_timeout,
        "health_check_timeout": health_check_timeout,
        "health_check_interval": health_check_interval,
        "health_check_path": health_check_path,
    }
    return Server(
        ServeContext(
            mode=mode,
            version=version,
            copy_style=copy_style,
            project=project,
            domain=domain,
            env_vars={**settings, **variables(raw_data_path, None), **(env_vars or {})},
            parameter_values=parameter_values or {},
            dry_run=dry_run,
            on_progress=on_progress,
            strict=strict,
            no_effect=_no_effect.of_call("flyte.with_servecontext()", given),
        )
    )


@syncable
async def serve(app_env: AppEnvironment) -> AppHandle:
    """Deploy an app with all that it depends on, and return its handle when it answers.

    Before any `flyte.init…`, and in local mode, the apps are served by child processes of this one, and end with it.

    Raises DeploymentError with the last lines of its log where it does not start; an older version goes on serving.
    """
    return await Server(ServeContext()).serve.aio(app_env)

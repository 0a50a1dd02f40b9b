"""`AppEnvironment`: the declaration of a program that answers requests."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast

from flyte import rules, wire
from flyte._declare.entry import entry_of_variable
from flyte._declare.environment import Environment
from flyte.app._parameter import Parameter
from flyte.app._settings import Domain, Link, Port, Scaling, Subdomain, Timeouts, seconds
from flyte.errors import InitializationError

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["asgi", "server", "command"]

_local_endpoints: dict[str, str] = {}


def set_local_endpoint(name: str, url: str | None) -> None:
    """Set the address of an app that this process serves itself; None when it no longer serves it."""
    if url is None:
        _local_endpoints.pop(name, None)
    else:
        _local_endpoints[name] = url


@dataclass(eq=False)
class AppEnvironment(Environment):
    """An app: a command (`args`, `command`), or a function under `@env.server`, behind an address of its own.

    In `args` and `command` (text is split as a shell would) a word that starts with `$` is replaced by that
    environment variable when the app starts; `$PORT` is the port to listen on.
    """

    type: str | None = None
    """The kind of app, for display, such as "Streamlit"."""
    port: int | Port = 8080
    """The port that the program believes it binds; several apps may declare the same."""
    args: list[str] | str | None = None
    command: list[str] | str | None = None
    requires_auth: bool = True
    """Whether callers need a key; False leaves their `Authorization` header to the app."""
    scaling: Scaling = field(default_factory=Scaling)
    domain: Domain | None = field(default_factory=Domain)
    links: list[Link] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    inputs: list[Parameter] = field(default_factory=list)
    """The older name of `parameters`; both are the same list."""
    cluster_pool: str = "default"
    cluster: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)

    _name_rule: ClassVar[rules.Text] = rules.APP_NAME

    def __post_init__(self) -> None:
        super().__post_init__()
        self.port = self.get_port()
        self.links = list(self.links)
        self.parameters = self.inputs = self._merged_parameters()
        if self.cluster is not None and self.cluster_pool != "default":
            raise ValueError(f"{self.name}: cluster= and cluster_pool= exclude each other")
        for name, kind in (("scaling", Scaling), ("timeouts", Timeouts)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{self.name}: {name}= takes flyte.app.{kind.__name__}, not {getattr(self, name)!r}")
        self._server: Callable[..., Any] | None = None
        self._on_startup: Callable[..., Any] | None = None
        self._on_shutdown: Callable[..., Any] | None = None

    def _merged_parameters(self) -> list[Parameter]:
        if self.inputs and self.parameters and self.inputs is not self.parameters:
            raise ValueError(f"{self.name}: inputs= is the older name of parameters=; use one of them")
        parameters = list(self.parameters or self.inputs)
        names = [parameter.name for parameter in parameters]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{self.name}: the parameter {twice[0]!r} is declared twice")
        return parameters

    # ---- what the app's process calls

    def server(self, func: F) -> F:
        """Have the app's process run `func`, sync or async; it receives the parameters that its signature names."""
        if self.command or self.args:
            raise ValueError(f"{self.name} has args= or command=; an app has those or a server function")
        self._server = func
        return func

    def on_startup(self, func: F) -> F:
        """Run `func` before the app serves."""
        self._on_startup = func
        return func

    def on_shutdown(self, func: F) -> F:
        """Run `func` after the app's last request."""
        self._on_shutdown = func
        return func

    # ---- what it is

    @property
    def kind(self) -> Kind:
        """How the app's process is started."""
        return "server" if self._server else "command"

    def get_port(self) -> Port:
        return self.port if isinstance(self.port, Port) else Port(self.port)

    @property
    def argv(self) -> list[str]:
        """`command` and `args`, as words."""
        return [*_words(self.command), *_words(self.args)]

    @property
    def endpoint(self) -> str:
        """Where the app answers, without a slash at the end.

        A process of the platform has it in its environment, a process that serves the app itself has set it, and any
        other process asks the platform. Raises AppNotFoundError, and InitializationError if no platform is configured.
        """
        told = json.loads(os.environ.get("FLYTE_APP_ENDPOINTS") or "{}").get(self.name)
        found = told or _local_endpoints.get(self.name) or self._asked()
        return cast("str", found).rstrip("/")

    def _asked(self) -> str:
        from flyte._session import state as _state
        from flyte.app._endpoint import app_endpoint

        if _state.current().client is None:
            raise InitializationError(
                "AppNotServedError",
                "user",
                f"the app {self.name!r} is not served by this process, and no platform is in force; "
                "call flyte.init_from_config() and deploy it, or flyte.serve() it here first",
            )
        return app_endpoint(self.name)

    def spec(self, root: Path) -> wire.AppSpec:  # type: ignore[override]
        """The app's part of a deployment's request. Raises ValueError if the app has nothing to run."""
        if self.kind == "command" and not self.argv:
            raise ValueError(f"the app {self.name!r} has nothing to run: give it args=, command= or an @env.server")
        domain = self.domain or Domain()
        subdomain = domain.subdomain
        return wire.AppSpec(
            name=self.name,
            environment=self.environment_spec(root),
            kind=self.kind,
            entry="" if self.kind == "command" else entry_of_variable(self, self.module, self.declared_in, root),
            argv=self.argv,
            port=self.get_port().port,
            requires_auth=self.requires_auth,
            passes_auth=self._passes_auth,
            scaling=self.scaling.to_wire(),
            parameters=[parameter.to_wire() for parameter in self.parameters],
            links=[link.to_wire() for link in self.links],
            subdomain=subdomain.text(self.name) if isinstance(subdomain, Subdomain) else subdomain,
            custom_domain=domain.custom_domain,
            request_timeout=seconds(self.timeouts.request) or None,
        )

    @property
    def _passes_auth(self) -> bool:
        """Whether the app needs to see its caller's key."""
        return False

    def environment_spec(self, root: Path) -> wire.EnvironmentSpec:
        """The settings that the app has in common with task environments."""
        return super().spec(root)

    def _kind(self) -> Any:
        return "app"

    def _cloned_fields(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        if "inputs" in fields or "parameters" in fields:
            fields = {"inputs": fields.get("parameters", []), "parameters": fields.get("inputs", []), **fields}
        return super()._cloned_fields(name, fields)

    def clone_with(self, name: str, **fields: Any) -> AppEnvironment:
        """A new app like this one, with another name and the given fields instead of its own.

        The server, startup and shutdown functions are the same. Raises TypeError for an unknown field.
        """
        clone = cast("AppEnvironment", super().clone_with(name, **fields))
        clone._server, clone._on_startup, clone._on_shutdown = self._server, self._on_startup, self._on_shutdown
        return clone


def _words(text: list[str] | str | None) -> list[str]:
    if text is None:
        return []
    return shlex.split(text) if isinstance(text, str) else [str(word) for word in text]

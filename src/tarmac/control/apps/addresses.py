"""Where apps are found: a port of its own for each, names under the front door, and what processes are told of both."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping

from flyte import wire
from flyte.errors import DeploymentError
from flyte.wire import AppId, Scope
from tarmac.control.live_apps import LiveApp
from tarmac.settings import Settings

_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

MOST_TOLD = 200
"""Apps of a project and domain whose URLs a process is told in its environment."""


class Addresses:
    def __init__(self, live: Mapping[AppId, LiveApp], settings: Settings, port: int) -> None:
        """`live`: a live view of the apps; `port`: the front door's."""
        self._live = live
        self._settings = settings
        self._port = port
        self._ports = settings.port_range(port)
        self._told: dict[Scope, dict[str, str]] = {}
        """What was told of the apps of a project and domain since one of them changed."""

    def url(self, app: LiveApp) -> str:
        return f"http://{self._host}:{app.row.port}"

    def front_url(self, app: LiveApp) -> str:
        """Its URL on the front door's port."""
        return f"http://{self.hosts(app)[0]}:{self._port}"

    @property
    def _host(self) -> str:
        return "127.0.0.1" if self._settings.host in ("0.0.0.0", "::", "") else self._settings.host

    def hosts(self, app: LiveApp) -> list[str]:
        """The names under which the front door serves the app."""
        return self._hosts(app.id, app.spec)

    def _hosts(self, app: AppId, spec: wire.AppSpec | None) -> list[str]:
        plain = app.scope == Scope()
        label = (spec.subdomain if spec else None) or (app.name if plain else f"{app.name}-{app.project}-{app.domain}")
        names = [f"{label}.{self._settings.domain}"]
        return names + ([spec.custom_domain] if spec and spec.custom_domain else [])

    # ------------------------------------------------------------------ whose names

    def check_names(self, scope: Scope, specs: Iterable[wire.AppSpec]) -> None:
        """Raise DeploymentError where an app would have a name that is the platform's own, or another app's."""
        taken = {_plain(host): app.id for app in self._live.values() for host in self.hosts(app)}
        for spec in specs:
            app = scope.app(spec.name)
            if spec.custom_domain:
                self._check_custom(spec.name, _plain(spec.custom_domain))
            for host in map(_plain, self._hosts(app, spec)):
                holder = taken.setdefault(host, app)
                if holder != app:
                    raise DeploymentError(
                        f"the app {spec.name!r} cannot be served at {host}: the app {holder} has that name; choose "
                        "another subdomain or custom_domain"
                    )

    def _check_custom(self, app: str, name: str) -> None:
        """Refuse the front door's names: such an app would receive keys that are meant for the platform."""
        own = {"localhost", _plain(self._settings.host), _plain(self._settings.domain)}
        if name in own or name.endswith(f".{_plain(self._settings.domain)}") or _is_address(name):
            raise DeploymentError(
                f"the app {app!r} cannot have custom_domain={name!r}: addresses, localhost, {self._settings.domain} "
                "and what is below it are the platform's own; use a name of yours, or subdomain="
            )

    # ------------------------------------------------------------------ what processes are told

    def changed(self) -> None:
        """An app came, went or moved."""
        self._told.clear()

    def told(self, scope: Scope) -> dict[str, str]:
        """What a process is told of the apps of its project and domain: their URLs, and which ask for a key."""
        told = self._told.get(scope)
        if told is None:
            told = self._told[scope] = self._tell(scope)
        return told

    def _tell(self, scope: Scope) -> dict[str, str]:
        apps = [app for id, app in self._live.items() if id.scope == scope][:MOST_TOLD]
        endpoints = {app.row.name: self.url(app) for app in apps}
        guarded = [self.url(app).partition("://")[2] for app in apps if app.spec is not None and app.requires_auth]
        return {"FLYTE_APP_ENDPOINTS": json.dumps(endpoints), "FLYTE_GUARDED_APPS": json.dumps(guarded)}

    # ------------------------------------------------------------------ ports

    def in_range(self, app: LiveApp) -> bool:
        return app.row.port in self._ports

    def free_port(self, unusable: Collection[int]) -> int:
        """The first port that no app has and that is not `unusable`. Raises DeploymentError when there is none."""
        taken = {app.row.port for app in self._live.values()} | set(unusable)
        for port in self._ports:
            if port not in taken:
                return port
        raise DeploymentError(
            f"all {len(self._ports)} app ports ({self._ports.start}-{self._ports.stop - 1}) are taken; "
            "delete apps with `flyte delete app NAME`, or set TARMAC_APP_PORTS to a longer range"
        )


def _plain(host: str) -> str:
    """A host name as the gateway compares it: without port and final dot, in small letters."""
    name = host.strip().lower()
    return name.rstrip(".") if name.startswith("[") or name.count(":") > 1 else name.partition(":")[0].rstrip(".")


def _is_address(name: str) -> bool:
    """Whether a client reads the name as a literal address; one that ends in a number is one (`127.1`, `0x7f.1`)."""
    return ":" in name or _NUMBER.fullmatch(name.rpartition(".")[2]) is not None

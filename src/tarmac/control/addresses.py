"""Where apps are found: a port of its own for each, names under the front door, and what processes are told of both."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from flyte import wire
from flyte.errors import DeploymentError
from tarmac.control.live_apps import Key, LiveApp
from tarmac.settings import Settings

MOST_TOLD = 200
"""Apps of a project and domain whose URLs a process is told in its environment."""


class Addresses:
    def __init__(self, live: Mapping[Key, LiveApp], settings: Settings, port: int) -> None:
        """`live`: a live view of the apps; `port`: the front door's."""
        self._live = live
        self._settings = settings
        self._port = port
        self._ports = settings.port_range(port)
        self._told: dict[tuple[str, str], dict[str, str]] = {}
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
        project, domain, name = app.key
        spec = app.spec
        plain = (project, domain) == (wire.DEFAULT_PROJECT, wire.DEFAULT_DOMAIN)
        label = (spec.subdomain if spec else None) or (name if plain else f"{name}-{project}-{domain}")
        names = [f"{label}.{self._settings.domain}"]
        return names + ([spec.custom_domain] if spec and spec.custom_domain else [])

    # ------------------------------------------------------------------ what processes are told

    def changed(self) -> None:
        """An app came, went or moved."""
        self._told.clear()

    def told(self, project: str, domain: str) -> dict[str, str]:
        """What a process is told of the apps of its project and domain: their URLs, and which ask for a key."""
        told = self._told.get((project, domain))
        if told is None:
            told = self._told[project, domain] = self._tell(project, domain)
        return told

    def _tell(self, project: str, domain: str) -> dict[str, str]:
        apps = [app for key, app in self._live.items() if key[:2] == (project, domain)][:MOST_TOLD]
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

"""The part of HAProxy's state that only a reload can change, and the names shared by configuration and runtime API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HOLD_LUA = Path(__file__).with_name("hold.lua")

HOSTS, SLOTS, KEYS, ENDED = "hosts.map", "slots.map", "keys.map", "ended.map"
"""The maps' files. The runtime API uses the same names as the configuration."""

CALLERS = "callers"
"""Name of the stick table of open requests, with the key that each was let in by."""

AGAIN = "again"
"""Name of the spare server in each app's backend, and of the frontend behind it."""

SESSION_COOKIE = "tarmac_session"

_DOOR_SHARE, _APPS_SHARE = 0.25, 0.625
"""Shares of all connections. The rest is for HAProxy's connections to itself: requests that are held."""

_ADDRESS_SHARE = 0.25
"""Of a frontend's connections, for one address that is not on this machine."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything that only a reload can change."""

    host: str
    port: int
    app_ports: tuple[int, ...]
    """The ports that are listened on, apart from the front door's."""
    unusable: tuple[int, ...]
    """Ports of the range that another program has."""
    slots: tuple[int, ...]
    """The slots, each with a backend: the whole range, and the ports outside of it that apps have."""
    domain: str
    threads: int
    maxconn: int
    hold_timeout: float
    identity_key: str
    """The secret that identities are signed with (HS256)."""
    issuer: str
    api_socket: Path
    wake_socket: Path
    runtime_socket: Path
    log_socket: Path
    again_socket: Path
    waiting_socket: Path
    lua: Path = HOLD_LUA
    lua_digest: str = ""
    tls_cert: str = ""
    tls_port: int = 0
    tls_digest: str = ""
    """The digest of the certificate file, so that a renewed certificate changes the shape."""
    per_address: int = 0
    """Connections that one address may have to a frontend; 0: a quarter of the frontend's."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose X-Forwarded-* headers are believed."""
    app_hosts: tuple[str, ...] = ()
    """Further names that the apps' ports answer to; `*`: every name."""

    @property
    def own_names(self) -> tuple[str, ...]:
        """The front door's own names. No app is ever looked up by one of them."""
        return tuple(dict.fromkeys(("localhost", self.domain.lower(), self.host.lower())))

    @property
    def door_connections(self) -> int:
        """Clients that the front door takes at once, so that the apps' clients cannot use up its connections."""
        return max(1, int(self.maxconn * _DOOR_SHARE))

    @property
    def app_connections(self) -> int:
        """Clients that the apps' ports take at once."""
        return max(1, int(self.maxconn * _APPS_SHARE))

    def of_one_address(self, connections: int) -> int:
        """How many of a frontend's connections one address of another machine may have."""
        return self.per_address or max(1, int(connections * _ADDRESS_SHARE))

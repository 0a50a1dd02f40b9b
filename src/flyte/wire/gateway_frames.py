"""Frames of the gateway: between the control plane and the gateway."""

from __future__ import annotations

from typing import Annotated

from msgspec import field

import flyte.rules as rules  # `from flyte import` would ask the package for the name first
from flyte.wire.frames import Frame


class RouteReplica(Frame, frozen=True, kw_only=True):
    name: str
    address: str
    """`host:port`."""


class Route(Frame, frozen=True, kw_only=True):
    """Everything the gateway needs to know of one app."""

    app: str
    """`project/domain/name`."""
    port: int
    hosts: list[str]
    requires_auth: bool
    passes_auth: bool = False
    wanted: str = "active"
    replicas: list[RouteReplica] = field(default_factory=list)
    max_connections: int = 10_000
    """Open requests and WebSockets of one replica; more wait in HAProxy's queue."""
    request_timeout: float | None = None
    scaledown_after: float | None = None
    """Seconds without a request after which the gateway says `Quiet`; None: never."""


class Routes(Frame, frozen=True, kw_only=True):
    """All routes; what is not in it is gone."""

    routes: list[Route]


class RouteChanged(Frame, frozen=True, kw_only=True):
    route: Route


class RouteRemoved(Frame, frozen=True, kw_only=True):
    app: str


class Keys(Frame, frozen=True, kw_only=True):
    """sha256 (hex) of every key that may call apps → who it is."""

    keys: dict[str, str]
    ended: list[str] = field(default_factory=list)
    """Browsers' sessions that were signed out before their time."""


class Wake(Frame, frozen=True, kw_only=True):
    """Requests are held for this app; answered by `Woken` when a replica is ready, or will not be."""

    key: int
    app: rules.AppPath


class Woken(Frame, frozen=True, kw_only=True):
    key: int
    ok: bool
    message: str = ""


class Quiet(Frame, frozen=True, kw_only=True):
    """No request was open and none came in for the route's `scaledown_after`, all the while with these replicas."""

    app: rules.AppPath
    replicas: list[rules.UnitName]


class Parted(Frame, frozen=True, kw_only=True):
    """The app lost its last replica in the routes, and nothing is open any more to those that it had."""

    app: rules.AppPath


class KeysUsed(Frame, frozen=True, kw_only=True):
    """The subjects that called apps since the last of these frames."""

    callers: list[str]


class Barrier(Frame, frozen=True, kw_only=True):
    """To the gateway: answer with `Applied` when HAProxy has every route that was sent before this."""

    number: int


class Applied(Frame, frozen=True, kw_only=True):
    number: int


class GatewayStatus(Frame, frozen=True, kw_only=True):
    unusable_ports: list[Annotated[int, rules.PORT]] = field(default_factory=list)
    message: rules.Printed = ""
    left_out: dict[str, str] = field(default_factory=dict)
    """`project/domain/app`, or the sha256 of a key → why HAProxy is not told of it."""


GatewayFrame = (
    Routes
    | RouteChanged
    | RouteRemoved
    | Keys
    | Wake
    | Woken
    | Quiet
    | Parted
    | KeysUsed
    | GatewayStatus
    | Barrier
    | Applied
)
"""What travels between the control plane and the gateway."""

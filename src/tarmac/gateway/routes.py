"""The routes, keys and replicas that the control plane wants, as entries of HAProxy's maps and servers. Pure."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from flyte.wire import Route
from tarmac.gateway.shape import AGAIN, ENDED, HOSTS, KEYS, SLOTS

log = logging.getLogger("tarmac.gateway")

_APP = re.compile(r"[A-Za-z0-9._-]{1,200}/[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,200}")
_HOST = re.compile(r"[a-z0-9._-]{1,253}")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


MAPS = (SLOTS, HOSTS, KEYS, ENDED)


LONGEST_CALLER = 300
"""Bytes of a caller's name as a header has it; commands and requests that hold it have limits of their own."""

LONGEST_TIMEOUT = 2**31 - 1
"""Milliseconds; HAProxy accepts no longer timeout."""


class BadRoute(ValueError):
    """Raised for a route that must not be sent to HAProxy, since HAProxy could misread its text."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A route or a key that is not sent to HAProxy, and why."""

    about: str
    """`project/domain/app`, or the sha256 of the key."""
    why: str

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True, slots=True)
class Server:
    """A replica as a server of a backend. `limit` is its greatest number of connections; None when it was not read."""

    address: str
    limit: int | None
    open: bool = True
    """False: the replica finishes open requests and gets no new ones."""


@dataclass(frozen=True, slots=True)
class Wanted:
    maps: Mapping[str, Mapping[str, str]]
    """Map → key → value, for the four maps of `config`."""
    servers: Mapping[int, Mapping[str, Server]]
    """Slot → replica."""

    @property
    def slots(self) -> Mapping[str, str]:
        return self.maps[SLOTS]

    @property
    def ports(self) -> frozenset[int]:
        return frozenset(self.servers)


def wanted(routes: Iterable[Route], keys: Mapping[str, str], ended: Iterable[str] = ()) -> tuple[Wanted, list[LeftOut]]:
    """All routes and keys as entries of maps and servers of backends, and those that had to be left out.

    `ended` are the ids of sessions that were signed out.
    """
    slots: dict[str, str] = {}
    hosts: dict[str, str] = {}
    servers: dict[int, dict[str, Server]] = {}
    refused: list[LeftOut] = []
    for route in routes:
        slot = str(route.port)
        try:
            value, replicas, names = entry(route), _replicas(route), _hosts(route)
            if slot in slots:
                raise BadRoute(f"{route.app}: port {slot} belongs to {app_of(slots[slot])}")
        except BadRoute as error:
            refused.append(LeftOut(route.app, str(error)))
            continue
        except Exception as error:  # whatever is odd about one route, the others are wanted
            log.exception("the route of %s", route.app)
            refused.append(LeftOut(route.app, f"{route.app}: {error!r}"))
            continue
        slots[slot], servers[route.port] = value, replicas
        for name in names:
            if hosts.setdefault(name, slot) != slot:
                why = f"{route.app}: the host name {name} belongs to {app_of(slots[hosts[name]])}"
                refused.append(LeftOut(route.app, why))
    sessions = {session: "1" for session in ended if _NAME.fullmatch(session)}
    return Wanted({SLOTS: slots, HOSTS: hosts, KEYS: _callers(keys, refused), ENDED: sessions}, servers), refused


def _callers(keys: Mapping[str, str], refused: list[LeftOut]) -> dict[str, str]:
    """sha256 of each key → its holder's name as a header has it."""
    callers: dict[str, str] = {}
    for digest, caller in keys.items():
        try:
            header = _header(caller)
        except ValueError as error:
            refused.append(LeftOut(digest, f"the API key {caller[:40]!r}: {error}"))
            continue
        if _DIGEST.fullmatch(digest):
            callers[digest] = header
    return callers


def _header(caller: str) -> str:
    """A user's name, encoded for a header and a command. Raises ValueError if that is impossible."""
    header = quote(caller, safe="@:/+=,()")
    if not header:
        raise ValueError("its name is empty")
    if len(header) > LONGEST_CALLER:
        raise ValueError(f"its name takes {len(header):,} bytes in a header, and {LONGEST_CALLER} are the limit")
    return header


def entry(route: Route) -> str:
    """The route as slots.map has it. Raises BadRoute."""
    if not _APP.fullmatch(route.app):
        raise BadRoute(f"{route.app!r} is not `project/domain/app`")
    if not 0 < route.port < 65536:
        raise BadRoute(f"{route.app}: {route.port} is not a port")
    access = "open" if not route.requires_auth else "passing" if route.passes_auth else "guarded"
    seconds = route.request_timeout or 0
    if not 0 <= seconds * 1000 <= LONGEST_TIMEOUT:
        longest = LONGEST_TIMEOUT // 1000
        raise BadRoute(f"{route.app}: its request_timeout is {seconds:g} s; it must be from 0 to {longest:,} s")
    timeout = max(1, round(seconds * 1000)) if seconds else 0
    return f"{route.app}|{access}|{state(route)}|{timeout}"


def state(route: Route) -> Literal["ready", "asleep", "stopped"]:
    """Whether requests are passed on (`ready`), held until there is a replica (`asleep`), or refused (`stopped`)."""
    if route.wanted != "active":
        return "stopped"
    return "ready" if route.replicas else "asleep"


def server_name(replica: str) -> str:
    """The replica's own name, or a digest of it if HAProxy does not accept the name."""
    if _NAME.fullmatch(replica) and replica != AGAIN:
        return replica
    return "x-" + hashlib.sha256(replica.encode()).hexdigest()[:20]


def _replicas(route: Route) -> dict[str, Server]:
    for replica in route.replicas:
        if not _ADDRESS.fullmatch(replica.address):
            raise BadRoute(f"{route.app}: replica {replica.name!r} is at {replica.address!r}, not at `host:port`")
    limit = max(1, route.max_connections)
    return {server_name(replica.name): Server(replica.address, limit) for replica in route.replicas}


def _hosts(route: Route) -> list[str]:
    """The route's host names without ports, as a client's Host is looked up."""
    names = [host.strip().lower().rstrip(".").partition(":")[0] for host in route.hosts]
    for name in names:
        if not _HOST.fullmatch(name):
            raise BadRoute(
                f"{route.app}: {name!r} is not a valid host name (letters, digits, dots and hyphens; IDNA as xn--…)"
            )
    return names


def app_of(entry: str) -> str:
    """The app of a route as slots.map has it."""
    return entry.partition("|")[0]

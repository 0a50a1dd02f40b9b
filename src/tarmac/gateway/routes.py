"""The state that the control plane wants, the state that HAProxy has, and the commands between the two. Pure.

    wanted(routes, keys, …) → Wanted          present ← runtime API          steps(wanted, present) → commands

The order of the steps is safe at every moment: a slot that goes to another app has no route while its replicas are
exchanged; a new replica is added before an old one is removed, and before the route says `ready`; keys and host names
come last. A replica that is no longer wanted is *closed* (HAProxy's maintenance: it gets no new request, open requests
and WebSockets go on) and deleted when it is idle.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from flyte.wire import Route
from tarmac.gateway import config
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


@dataclass(slots=True)
class Present:
    """HAProxy's state as it was read, updated by the commands that were sent since."""

    maps: dict[str, dict[str, str]] = field(default_factory=lambda: {name: {} for name in MAPS})
    servers: dict[int, dict[str, Server]] = field(default_factory=dict)
    """One entry for each backend, also for those without a replica."""

    @property
    def slots(self) -> Mapping[str, str]:
        return self.maps[SLOTS]

    def is_served(self, app: str) -> bool:
        """Whether the app has a replica that takes requests."""
        return any(
            value.startswith(f"{app}|") and any(server.open for server in self.servers.get(int(slot), {}).values())
            for slot, value in self.slots.items()
        )

    def closed(self) -> Iterator[tuple[int, str]]:
        """The servers that are deleted when their last connection ends."""
        for slot, servers in self.servers.items():
            for name, server in servers.items():
                if not server.open:
                    yield slot, name


# ------------------------------------------------------------------------------------------------------ what is wanted


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
                raise BadRoute(f"{route.app}: port {slot} belongs to {_app(slots[slot])}")
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
                why = f"{route.app}: the host name {name} belongs to {_app(slots[hosts[name]])}"
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


# ------------------------------------------------------------------------------------------------------------ the steps


@dataclass(frozen=True, slots=True)
class AddEntry:
    map: str
    key: str
    value: str

    @property
    def command(self) -> str:
        return f"add map {self.map} {self.key} {self.value}"

    def take(self, present: Present) -> None:
        present.maps[self.map][self.key] = self.value


@dataclass(frozen=True, slots=True)
class SetEntry:
    map: str
    key: str
    value: str

    @property
    def command(self) -> str:
        return f"set map {self.map} {self.key} {self.value}"

    def take(self, present: Present) -> None:
        present.maps[self.map][self.key] = self.value


@dataclass(frozen=True, slots=True)
class DropEntry:
    map: str
    key: str

    @property
    def command(self) -> str:
        return f"del map {self.map} {self.key}"

    def take(self, present: Present) -> None:
        del present.maps[self.map][self.key]


@dataclass(frozen=True, slots=True)
class AddServer:
    """A new server gets no request before it is opened."""

    slot: int
    name: str
    address: str
    limit: int

    @property
    def command(self) -> str:
        return f"add server p{self.slot}/{self.name} {config.server(self.address, self.limit)}"

    def take(self, present: Present) -> None:
        present.servers[self.slot][self.name] = Server(self.address, self.limit, open=False)


@dataclass(frozen=True, slots=True)
class MoveServer:
    slot: int
    name: str
    address: str

    @property
    def command(self) -> str:
        host, _, port = self.address.rpartition(":")
        return f"set server p{self.slot}/{self.name} addr {host.strip('[]')} port {port}"

    def take(self, present: Present) -> None:
        was = present.servers[self.slot][self.name]
        present.servers[self.slot][self.name] = Server(self.address, was.limit, was.open)


@dataclass(frozen=True, slots=True)
class LimitServer:
    slot: int
    name: str
    limit: int

    @property
    def command(self) -> str:
        return f"set maxconn server p{self.slot}/{self.name} {self.limit}"

    def take(self, present: Present) -> None:
        was = present.servers[self.slot][self.name]
        present.servers[self.slot][self.name] = Server(was.address, self.limit, was.open)


@dataclass(frozen=True, slots=True)
class OpenServer:
    slot: int
    name: str

    @property
    def command(self) -> str:
        return f"set server p{self.slot}/{self.name} state ready"

    def take(self, present: Present) -> None:
        was = present.servers[self.slot][self.name]
        present.servers[self.slot][self.name] = Server(was.address, was.limit, open=True)


@dataclass(frozen=True, slots=True)
class CloseServer:
    slot: int
    name: str

    @property
    def command(self) -> str:
        return f"set server p{self.slot}/{self.name} state maint"

    def take(self, present: Present) -> None:
        was = present.servers[self.slot][self.name]
        present.servers[self.slot][self.name] = Server(was.address, was.limit, open=False)


@dataclass(frozen=True, slots=True)
class DeleteServer:
    """Refused by HAProxy for as long as the server has connections."""

    slot: int
    name: str

    @property
    def command(self) -> str:
        return f"del server p{self.slot}/{self.name}"

    def take(self, present: Present) -> None:
        del present.servers[self.slot][self.name]


Step = AddEntry | SetEntry | DropEntry | AddServer | MoveServer | LimitServer | OpenServer | CloseServer | DeleteServer


def steps(wanted: Wanted, present: Present) -> list[Step]:
    """All commands that lead to the wanted state, in a safe order; empty when HAProxy has it.

    Slots without a backend are left out (`without_backend`), and closed servers are left in (`Present.closed`).
    """
    changed_hands = {
        slot
        for slot, value in present.slots.items()
        if slot not in wanted.slots or _app(value) != _app(wanted.slots[slot])
    }
    found: list[Step] = [DropEntry(SLOTS, slot) for slot in changed_hands]
    others = [name for name in MAPS if name != SLOTS]
    for name in others:
        found += [DropEntry(name, key) for key in present.maps[name] if key not in wanted.maps[name]]
    for slot, servers in present.servers.items():
        value = None if str(slot) in changed_hands else present.slots.get(str(slot))
        found += _of_slot(slot, wanted, servers, value)
    for name in others:
        found += _puts(name, wanted.maps[name], present.maps[name])
    return found


def without_backend(wanted: Wanted, present: Present) -> frozenset[int]:
    """Slots without a backend; only a reload can make one."""
    return wanted.ports - present.servers.keys()


def _of_slot(slot: int, wanted: Wanted, servers: Mapping[str, Server], value: str | None) -> Iterator[Step]:
    """New replicas, then the route, then the end of the old ones. `value` is the route that the slot has now."""
    target = wanted.servers.get(slot, {})
    for name, server in target.items():
        yield from _to_server(slot, name, server, servers.get(name))
    closing = [CloseServer(slot, name) for name, server in servers.items() if server.open and name not in target]
    if value is None:
        yield from closing
    if str(slot) in wanted.slots:
        yield from _puts(SLOTS, {str(slot): wanted.slots[str(slot)]}, {} if value is None else {str(slot): value})
    if value is not None:
        yield from closing


def _to_server(slot: int, name: str, want: Server, have: Server | None) -> Iterator[Step]:
    limit = want.limit or 1
    if have is None:
        yield AddServer(slot, name, want.address, limit)
        yield OpenServer(slot, name)
        return
    if have.address != want.address:
        yield MoveServer(slot, name, want.address)
    if have.limit != limit:
        yield LimitServer(slot, name, limit)
    if not have.open:
        yield OpenServer(slot, name)


def _puts(name: str, wanted: Mapping[str, str], present: Mapping[str, str]) -> Iterator[Step]:
    for key, value in wanted.items():
        if key not in present:
            yield AddEntry(name, key, value)
        elif present[key] != value:
            yield SetEntry(name, key, value)


def slot_of(step: Step) -> int | None:
    """The slot that the step is about; None for a host name or a key."""
    if isinstance(step, AddEntry | SetEntry | DropEntry):
        return int(step.key) if step.map == SLOTS else None
    return step.slot


def _app(entry: str) -> str:
    return entry.partition("|")[0]

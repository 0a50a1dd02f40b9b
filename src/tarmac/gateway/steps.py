"""The steps from the state that HAProxy has to the state that the control plane wants. Pure.

    wanted(routes, keys, …) → Wanted          present ← runtime API          steps(wanted, present) → commands

The order of the steps is safe at every moment: a slot that goes to another app has no route while its replicas are
exchanged; a new replica is added before an old one is removed, and before the route says `ready`; keys and host names
come last. A replica that is no longer wanted is *closed* (HAProxy's maintenance: it gets no new request, open requests
and WebSockets go on) and deleted when it is idle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tarmac.gateway import config
from tarmac.gateway.routes import MAPS, Server, Wanted, app_of
from tarmac.gateway.shape import SLOTS


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
        if slot not in wanted.slots or app_of(value) != app_of(wanted.slots[slot])
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

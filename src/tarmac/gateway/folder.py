"""The gateway's folder: the configuration that HAProxy runs with, its maps, and the controller's memory file.

Everything in it can be made again from `memory.json`, the settings and the free ports of this machine. The memory file
has the last routes and keys that the control plane sent, so that an HAProxy or a controller that is restarted while the
control plane is away has them. Replicas end with the platform: the first `prepare` after another start of the platform
forgets them, since other programs may have their ports by now. A start of the platform is identified by a random word,
not by the supervisor's pid, which in a container is the same each time.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import msgspec

from flyte.atomic import replace_file
from flyte.errors import InitializationError
from flyte.wire import Route
from tarmac.auth import ISSUER, signing_secret
from tarmac.gateway import config, ports, program
from tarmac.gateway.config import BACKENDS_FILE, SHAPE_FILE
from tarmac.gateway.routes import Wanted, wanted
from tarmac.gateway.shape import HOLD_LUA, Shape
from tarmac.home import Home
from tarmac.hosts import is_free
from tarmac.settings import Settings, words

log = logging.getLogger("tarmac.gateway")

_BOUND = re.compile(r"^  bind \S+?:(\d+)(?:-(\d+))?$", re.MULTILINE)


class Memory(msgspec.Struct, frozen=True):
    """The routes and keys that the control plane sent last."""

    life: str = ""
    """The word of the platform's start in which that was (`process.life`)."""
    routes: list[Route] = []
    keys: dict[str, str] = {}
    ended: list[str] = []


def remembered(home: Home) -> Memory | None:
    """The content of the memory file; None if it cannot be read."""
    try:
        return msgspec.json.decode(_memory_file(home).read_bytes(), type=Memory)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def remember(home: Home, memory: Memory) -> None:
    replace_file(_memory_file(home), msgspec.json.encode(memory).decode())


def _memory_file(home: Home) -> Path:
    return home.gateway / "memory.json"


# -------------------------------------------------------------------------------------------------- the configuration


def prepare(home: Home, settings: Settings, life: str) -> list[str]:
    """Write all files of HAProxy, and return the command that runs it in the foreground, with its master.

    Called by the process that becomes HAProxy. `settings.port` is the real port, `life` the word of this start of the
    platform. HAProxy starts with the routes of the memory file. Raises InitializationError when no HAProxy is found,
    the front door's port is taken, or the certificate cannot be read.
    """
    haproxy = program.find(settings)
    if not is_free(settings.host, settings.port):
        raise InitializationError(
            "PortInUse",
            "user",
            f"port {settings.port} of {settings.host} is in use by another program; "
            "set TARMAC_PORT to another one (0 takes a free one), or end that program",
        )
    before = remembered(home)
    memory = adopted(home, life)
    want, _ = wanted(memory.routes, memory.keys, memory.ended)
    shape = plan(home, settings, frozenset(), want.ports)
    try:
        write(home, shape, want)
    except OSError as error:  # a full disk: the last configuration is nearly right, and the controller corrects it
        if memory != before or not (home.gateway / SHAPE_FILE).exists():
            raise
        log.warning("HAProxy starts with the configuration that is there: %s", error)
    return [
        str(haproxy),
        *("-W", "-S", f"unix@{home.haproxy_master_socket},mode,600"),
        *("-f", str(home.gateway / SHAPE_FILE), "-f", str(home.gateway / BACKENDS_FILE)),
    ]


def adopted(home: Home, life: str) -> Memory:
    """The memory for this start of the platform: without the replicas of an earlier start."""
    memory = remembered(home) or Memory()
    if memory.life != life:
        routes = [msgspec.structs.replace(route, replicas=[]) for route in memory.routes]
        memory = Memory(life, routes, memory.keys, memory.ended)
        remember(home, memory)
    return memory


def plan(home: Home, settings: Settings, ours: frozenset[int], slots: Iterable[int] = ()) -> Shape:
    """The shape that HAProxy should have, given the ports on which it listens already and the apps' slots."""
    wished = [port for port in settings.port_range(settings.port) if port not in (settings.port, settings.tls_port)]
    bound = ports.usable(settings.host, wished, ours)
    return Shape(
        host=settings.host,
        port=settings.port,
        app_ports=bound,
        unusable=tuple(sorted(set(wished) - set(bound))),
        slots=tuple(sorted({*wished, *slots})),
        domain=settings.domain,
        threads=settings.threads,
        maxconn=ports.connections(len(wished), settings.connections),
        hold_timeout=settings.hold_timeout,
        identity_key=signing_secret(home.master_key()),
        issuer=ISSUER,
        api_socket=home.api_socket,
        wake_socket=home.wake_socket,
        runtime_socket=home.haproxy_socket,
        log_socket=home.access_log_socket,
        again_socket=home.sockets / "again.sock",
        waiting_socket=home.sockets / "waiting.sock",
        lua_digest=_digest(HOLD_LUA),
        tls_cert=settings.tls_cert,
        tls_port=settings.tls_port,
        tls_digest=certificate(settings),
        per_address=settings.connections_per_address,
        trusted_proxies=tuple(words(settings.trusted_proxies)),
        app_hosts=tuple(words(settings.app_hosts.lower())),
    )


def with_slots(shape: Shape, slots: Iterable[int]) -> Shape:
    """The same shape, with backends for these slots too."""
    return replace(shape, slots=tuple(sorted({*shape.slots, *slots})))


def certificate(settings: Settings) -> str:
    """The digest of the certificate file, empty without TLS. Raises InitializationError where it cannot be read."""
    if not settings.tls_cert:
        return ""
    try:
        return _digest(Path(settings.tls_cert))
    except OSError as error:
        raise InitializationError(
            "BadCertificate",
            "user",
            f"TARMAC_TLS_CERT is {settings.tls_cert!r}: {error.strerror}; name a PEM file with certificate and key",
        ) from error


def write(home: Home, shape: Shape, want: Wanted) -> None:
    """Write the configuration with the current routes, for the next start or reload."""
    servers = {
        slot: {name: (server.address, server.limit or 1) for name, server in replicas.items()}
        for slot, replicas in want.servers.items()
    }
    for name, entries in want.maps.items():
        replace_file(home.gateway / name, config.render_map(entries))
    replace_file(home.gateway / BACKENDS_FILE, config.render_backends(shape, servers))
    replace_file(home.gateway / SHAPE_FILE, config.render(shape))


def bound(home: Home) -> frozenset[int]:
    """The ports that the HAProxy of this folder listens on, as its configuration says."""
    try:
        text = (home.gateway / SHAPE_FILE).read_text()
    except FileNotFoundError:
        return frozenset()
    runs = ((int(first), int(last or first)) for first, last in _BOUND.findall(text))
    return frozenset(port for first, last in runs for port in range(first, last + 1))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""HAProxy's configuration as text. Pure: this module reads no file and opens no port.

There are two files, since their contents change at different rates. `haproxy.cfg` is the *shape*: listeners, rules,
limits; another shape needs a reload. `backends.cfg` has one backend for each slot with its current replicas, so that an
HAProxy that is started or reloaded has them at once; while it runs, replicas come and go over the runtime API.

A *slot* is a port number. An app has one slot for life: the port it listens on, and its backend `p<slot>`. The maps,
which change while HAProxy runs:

    hosts.map   host name → slot
    slots.map   slot → `project/domain/app|open, guarded or passing|ready, asleep or stopped|milliseconds or 0`
    keys.map    sha256 of a key → caller
    ended.map   id of a browser's session that was signed out → 1

For each request HAProxy finds the slot (by the port on which it arrived, or by Host), the route of the slot, and, if
the route is guarded, the caller; it cleans the headers; then it refuses the request, holds it, or passes it on to
`p<slot>`. A request whose slot is in no map goes to the control plane on the front door, and gets a 404 on an app's
port.

`p<slot>` ends in a server `again`, a spare that is used when no replica is left: it leads back into this HAProxy,
where the request is held like any other. So a request is not lost when its only replica dies before the connection is
made, or when HAProxy is reloaded while it is held. Nothing else is tried twice: a replica that has received the first
byte of a request may have acted on it. The control plane is the exception, since its GET, HEAD and PUT can be repeated.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tarmac.gateway import answers, rules
from tarmac.gateway.rules import quoted
from tarmac.gateway.shape import AGAIN, HOSTS, SLOTS, Shape

SHAPE_FILE = "haproxy.cfg"
BACKENDS_FILE = "backends.cfg"
WAITING = "waiting"
"""Name of the spare server of the control plane, used while the control plane's socket does not exist."""

_CONNECT = 0.4
"""Seconds for one try to reach a replica, and between two tries."""

_TRIES = 8
_BUFFER = 32 * 1024
"""Bytes of the longest head of a request or an answer, with a kilobyte to spare. HAProxy needs two of them for each
request that is under way, and none for a connection that is idle."""

_HEADERS = 400
"""The most headers that a request or an answer may have."""

_BODY_PAUSE = "60s"
"""How long a client may be silent in the middle of a request to the control plane."""

_QUIET = "24h"
"""How long a stream or a WebSocket may be silent. Dead peers are found by TCP keepalive long before."""


def render(shape: Shape) -> str:
    """The text of haproxy.cfg. Its description is the shape's digest, which `show info` reports."""
    return _text(shape, digest(shape))


@functools.lru_cache(maxsize=4)
def digest(shape: Shape) -> str:
    """A digest of the shape and of the rules of this release."""
    return hashlib.sha256(f"{shape}\n{_text(shape, '')}".encode()).hexdigest()[:20]


def _text(shape: Shape, stamp: str) -> str:
    sections = (
        _global(shape, stamp),
        _access_ring(shape),
        _defaults(),
        _door(shape),
        _apps(shape),
        _again(shape),
        rules.callers(shape),
        _control(shape),
        _defaults_of_apps(),
    )
    return _lines(line for section in sections for line in section)


def render_backends(shape: Shape, servers: Mapping[int, Mapping[str, tuple[str, int]]]) -> str:
    """The text of backends.cfg: slot → replica → (address, connections it may have)."""
    blocks = []
    for slot in shape.slots:
        lines = [
            f"backend p{slot} from app",
            f"  server {AGAIN} {quoted(f'unix@{shape.again_socket}')} send-proxy-v2 backup",
        ]
        replicas = servers.get(slot, {})
        lines += [f"  server {name} {server(address, limit)}" for name, (address, limit) in replicas.items()]
        blocks.append(_lines(lines))
    return "".join(blocks)


def server(address: str, limit: int) -> str:
    """The arguments of a server after its name, in the file as over the runtime API."""
    # idle connections are closed soon: before most servers close them, and so that a drained replica can be deleted
    return f"{address} maxconn {limit} pool-purge-delay 1s"


def render_map(entries: Mapping[str, str]) -> str:
    """The text of a map file."""
    return _lines(f"{key} {value}" for key, value in entries.items())


# ------------------------------------------------------------------------------------------------------ the sections


def _global(shape: Shape, stamp: str) -> Iterator[str]:
    yield "# Written by tarmac.gateway; changes made by hand are lost."
    yield "global"
    yield "  default-path config"  # the maps are named without a folder, which may have any name
    yield f"  description {stamp}"
    yield f"  stats socket {quoted(f'unix@{shape.runtime_socket}')} mode 600 level admin expose-fd listeners"
    yield "  stats timeout 30s"
    sockets = f"{quoted(f'unix@{shape.wake_socket}')} {quoted(f'unix@{shape.api_socket}')}"
    yield f"  lua-load-per-thread {quoted(str(shape.lua))} {sockets} {shape.hold_timeout:g}"
    yield f"  nbthread {shape.threads}"
    yield f"  maxconn {shape.maxconn}"
    yield f"  tune.bufsize {_BUFFER}"
    yield f"  tune.http.maxhdr {_HEADERS}"
    yield "  noreuseport"  # a second platform on the same port must fail, not get every other connection
    yield "  ssl-default-bind-options ssl-min-ver TLSv1.2"


def _access_ring(shape: Shape) -> Iterator[str]:
    # A stream and not datagrams: Linux queues only ten of those by default, and the rest of a burst would be lost.
    # The ring keeps what happens while the controller is being restarted.
    yield "ring access"
    yield "  format raw"
    yield "  maxlen 4000"
    yield "  size 1048576"
    yield "  timeout connect 1s"
    yield "  timeout server 10s"
    yield f"  server controller {quoted(f'unix@{shape.log_socket}')} log-proto legacy"


def _defaults() -> Iterator[str]:
    yield "defaults base"
    yield "  mode http"
    yield "  option dontlognull"
    yield "  option http-restrict-req-hdr-names delete"
    yield "  option http-keep-alive"
    yield "  option http-no-delay"  # each piece that an app streams is sent on at once
    yield "  option abortonclose"
    yield "  option idle-close-on-response"  # a reload must not close a connection that a client is about to use
    yield "  option tcpka"
    yield "  clitcpka-idle 60s"
    yield "  clitcpka-intvl 15s"
    yield "  clitcpka-cnt 4"
    yield "  srvtcpka-idle 60s"
    yield "  srvtcpka-intvl 15s"
    yield "  srvtcpka-cnt 4"
    yield "  option redispatch 1"
    yield "  retry-on conn-failure"
    yield "  timeout http-request 10s"
    yield "  timeout http-keep-alive 75s"
    yield "  timeout client 1h"
    yield "  timeout client-fin 30s"
    yield "  timeout queue 30s"
    yield f"  timeout tunnel {_QUIET}"
    yield rules.error(answers.BODY_LATE)


def _door(shape: Shape) -> Iterator[str]:
    yield "frontend door from base"
    yield f"  bind {_address(shape.host)}:{shape.port}"
    if shape.tls_cert:
        yield f"  bind {_address(shape.host)}:{shape.tls_port} ssl crt {quoted(shape.tls_cert)} alpn h2,http/1.1"
    yield from rules.connections(shape, shape.door_connections)
    yield f"  timeout client {_BODY_PAUSE}"
    yield from rules.log()
    yield from _slot_by_name(shape)
    yield "  acl for_an_app var(txn.slot) -m found"
    yield "  http-request set-log-level silent unless for_an_app"
    yield rules.refuse(
        answers.NO_APP_HERE, f"if !for_an_app {{ req.hdr(host),host_only,lower -m end .{shape.domain} }}"
    )
    yield from rules.sign_in_form(shape, "!for_an_app")
    yield from rules.clean_headers(shape)
    yield from rules.route(shape, "if for_an_app !routed", rules.sign_in_of_name(shape))
    yield "  use_backend control unless for_an_app"
    yield "  use_backend p%[var(txn.slot)]"


def _apps(shape: Shape) -> Iterator[str]:
    if not shape.app_ports:
        return
    yield "frontend apps from base"
    for first, last in _runs(shape.app_ports):
        yield f"  bind {_address(shape.host)}:{first}" + (f"-{last}" if last > first else "")
    yield from rules.connections(shape, shape.app_connections)
    yield from rules.log()
    yield "  http-request set-var(txn.slot) dst_port"
    yield from rules.clean_headers(shape)
    yield from rules.known_name(shape)
    yield from rules.route(shape, "if !routed", rules.sign_in_of_port(shape))
    yield "  use_backend p%[var(txn.slot)]"


def _slot_by_name(shape: Shape) -> Iterator[str]:
    """Find the slot by the host name of the request. The front door's own names and addresses belong to no app."""
    yield "  acl door_name req.hdr(host),host_only,lower -m str " + " ".join(shape.own_names)
    yield f"  acl door_name req.hdr(host),host_only,lower -m reg {quoted(rules.ADDRESS)}"
    yield f"  http-request set-var(txn.slot) req.hdr(host),host_only,lower,map_str({HOSTS}) unless door_name"


def _again(shape: Shape) -> Iterator[str]:
    """The frontend for requests whose app has no replica left. Headers and caller were checked before."""
    yield f"frontend {AGAIN} from base"
    yield f"  bind {quoted(f'unix@{shape.again_socket}')} mode 600 accept-proxy"
    yield from _slot_by_name(shape)
    yield f"  http-request set-var(txn.slot) dst_port if {{ dst_port,map_str({SLOTS}) -m found }}"
    yield f"  http-request set-var(txn.route) var(txn.slot),map_str({SLOTS})"
    yield "  http-request set-var(txn.app) var(txn.route),field(1,|)"
    yield rules.refuse(answers.NO_APP_HERE, "unless { var(txn.route) -m found }")
    yield rules.refuse(answers.STOPPED, "if { var(txn.route),field(3,|) -m str stopped }")
    yield rules.refuse(answers.APP_AWAY, "if { req.hdr(x-flyte-again) -m found }")  # once around is enough
    yield "  http-request set-header x-flyte-again 1"
    yield "  http-request lua.hold"
    yield "  use_backend p%[var(txn.slot)]"


def _control(shape: Shape) -> Iterator[str]:
    # A unix socket that is away refuses at once, and HAProxy pauses only where the refusal takes time. So the first
    # refusal marks the server down, and requests take the spare way, where they wait for the socket to be back.
    api = quoted(f"unix@{shape.api_socket}")
    spare = quoted(f"unix@{shape.waiting_socket}")
    check = "check inter 10s fastinter 100ms downinter 100ms fall 1 rise 1"
    yield from _control_backend("control")
    yield f"  server control {api} {check} observe layer4 error-limit 1 on-error mark-down"
    yield f"  server {WAITING} {spare} backup"
    # else a client that stops waiting is an alert in the log, see hold.lua; here nobody waits for more than seconds
    yield "defaults patient from base"
    yield "  no option abortonclose"
    yield f"frontend {WAITING} from patient"
    yield f"  bind {spare} mode 600"
    yield "  http-request lua.await_control"
    yield "  default_backend control-again"
    yield from _control_backend("control-again")
    yield f"  server control {api}"


def _control_backend(name: str) -> Iterator[str]:
    yield f"backend {name} from base"
    yield "  timeout connect 1s"
    yield f"  timeout server {_QUIET}"
    yield "  retries 3"
    yield "  retry-on conn-failure empty-response"
    yield "  http-request disable-l7-retry unless { method GET HEAD PUT }"
    for answer in (answers.CONTROL_AWAY, answers.CONTROL_SILENT, answers.CONTROL_BROKE_OFF):
        yield rules.error(answer)


def _defaults_of_apps() -> Iterator[str]:
    yield "defaults app from base"
    yield "  balance leastconn"
    yield f"  timeout connect {_milliseconds(_CONNECT)}"
    yield f"  timeout server {_QUIET}"
    yield f"  retries {_TRIES}"
    # An event stream is silent for as long as it likes; the app's own limit is for answers.
    yield (
        "  http-request set-timeout server var(txn.route),field(4,|) "
        "if !{ var(txn.route),field(4,|) -m str 0 } !{ req.hdr(accept) -m sub text/event-stream }"
    )
    for answer in (answers.APP_AWAY, answers.APP_SILENT, answers.APP_BROKE_OFF):
        yield rules.error(answer)


# ------------------------------------------------------------------------------------------------- how it is written


def _address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _runs(ports: Sequence[int]) -> list[tuple[int, int]]:
    """Ports in ascending order as ranges, first and last included."""
    runs: list[tuple[int, int]] = []
    for port in ports:
        if runs and port == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], port)
        else:
            runs.append((port, port))
    return runs

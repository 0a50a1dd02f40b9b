"""HAProxy's configuration as text. Pure: no file is read and no port is tried here.

Two files, for two rates of change. `haproxy.cfg` is the *shape*: listeners, rules, limits; another shape means a
reload. `backends.cfg` has one backend for each slot with the replicas of the moment, so that an HAProxy that is
started or reloaded has them at once; while it runs, replicas come and go over the runtime API.

A *slot* is a port number. An app has one slot for life: the port it listens on, and its backend `p<slot>`. The maps,
which change while HAProxy runs:

    hosts.map   host name → slot
    slots.map   slot → `project/domain/app|open, guarded or passing|ready, asleep or stopped|milliseconds or 0`
    keys.map    sha256 of a key → caller
    holders.map sha256 of a caller who has a key → caller

A request's way: find the slot (by the port it came in on, or by Host), the route of the slot, the caller where the
route is guarded; clean the headers; refuse, hold, or pass on to `p<slot>`. What is in no map gets the control plane
on the front door and a 404 on an app's port.

`p<slot>` ends in a server `again`, a spare that is used when no replica is left: it leads back into this HAProxy,
where the request is held like any other. So a request whose only replica died before the connection was made is not
lost, and neither is one that an HAProxy held which was reloaded meanwhile. Nothing else is tried twice: whoever got
the first byte of a request may have acted on it. The control plane is the exception, since its GET, HEAD and PUT are
made to be repeated.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tarmac.gateway import answers
from tarmac.gateway.answers import Answer

HOLD_LUA = Path(__file__).with_name("hold.lua")

SHAPE_FILE = "haproxy.cfg"
BACKENDS_FILE = "backends.cfg"
HOSTS, SLOTS, KEYS, HOLDERS = "hosts.map", "slots.map", "keys.map", "holders.map"
"""The maps' files. HAProxy knows a map by the name that stands in the configuration, the runtime API by the same."""

AGAIN = "again"
"""Name of the spare server in each app's backend, and of the frontend behind it."""

SESSION_COOKIE = "tarmac_session"

WAITING = "waiting"
"""Name of the spare way to the control plane, for as long as its socket is away."""

_CONNECT = 0.4
"""Seconds for one try to reach a replica, and between two tries."""

_TRIES = 8
_QUIET = "24h"
"""How long a stream or a WebSocket may be silent. Dead peers are found by TCP keepalive long before."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything that only a reload can change."""

    host: str
    port: int
    app_ports: tuple[int, ...]
    """The ports that are listened on, apart from the front door's."""
    unusable: tuple[int, ...]
    """Ports of the range that somebody else holds."""
    slots: tuple[int, ...]
    """One backend for each: the whole range, and the ports outside of it that apps have."""
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
    """Of the certificate file, so that a renewed one is another shape."""


def render(shape: Shape) -> str:
    """The text of haproxy.cfg. Its description is the shape's digest, for `show info` to tell."""
    return _text(shape, digest(shape))


@functools.lru_cache(maxsize=4)
def digest(shape: Shape) -> str:
    """What tells one shape from another, and the rules of one release from those of the next."""
    return hashlib.sha256(f"{shape}\n{_text(shape, '')}".encode()).hexdigest()[:20]


def _text(shape: Shape, stamp: str) -> str:
    sections = (
        _global(shape, stamp),
        _access_ring(shape),
        _defaults(),
        _door(shape),
        _apps(shape),
        _again(shape),
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
            f"  server {AGAIN} {_quoted(f'unix@{shape.again_socket}')} send-proxy-v2 backup",
        ]
        replicas = servers.get(slot, {})
        lines += [f"  server {name} {server(address, limit)}" for name, (address, limit) in replicas.items()]
        blocks.append(_lines(lines))
    return "".join(blocks)


def server(address: str, limit: int) -> str:
    """What follows a server's name, in the file as over the runtime API."""
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
    yield f"  stats socket {_quoted(f'unix@{shape.runtime_socket}')} mode 600 level admin expose-fd listeners"
    yield "  stats timeout 30s"
    sockets = f"{_quoted(f'unix@{shape.wake_socket}')} {_quoted(f'unix@{shape.api_socket}')}"
    yield f"  lua-load-per-thread {_quoted(str(shape.lua))} {sockets} {shape.hold_timeout:g}"
    yield f"  nbthread {shape.threads}"
    yield f"  maxconn {shape.maxconn}"
    yield "  noreuseport"  # a second platform on the same port must fail, not get every other connection
    yield "  ssl-default-bind-options ssl-min-ver TLSv1.2"


def _access_ring(shape: Shape) -> Iterator[str]:
    # A stream and not datagrams: Linux queues only ten of those by default, and the rest of a burst would be lost.
    # The ring keeps what happens while the brain is being restarted.
    yield "ring access"
    yield "  format raw"
    yield "  maxlen 4000"
    yield "  size 1048576"
    yield "  timeout connect 1s"
    yield "  timeout server 10s"
    yield f"  server brain {_quoted(f'unix@{shape.log_socket}')} log-proto legacy"


def _defaults() -> Iterator[str]:
    yield "defaults base"
    yield "  mode http"
    yield "  option dontlognull"
    yield "  option http-keep-alive"
    yield "  option http-no-delay"  # what an app streams is sent on as it comes, not when the next piece is there
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


def _door(shape: Shape) -> Iterator[str]:
    yield "frontend door from base"
    yield f"  bind {_address(shape.host)}:{shape.port}"
    if shape.tls_cert:
        yield f"  bind {_address(shape.host)}:{shape.tls_port} ssl crt {_quoted(shape.tls_cert)} alpn h2,http/1.1"
    yield from _log()
    yield f"  http-request set-var(txn.slot) req.hdr(host),host_only,lower,map_str({HOSTS})"
    yield "  acl for_an_app var(txn.slot) -m found"
    yield "  http-request set-log-level silent unless for_an_app"
    yield _refuse(answers.NO_APP_HERE, f"if !for_an_app {{ req.hdr(host),host_only,lower -m end .{shape.domain} }}")
    yield from _clean_headers()
    yield from _route(shape, "if for_an_app !routed")
    yield "  use_backend control unless for_an_app"
    yield "  use_backend p%[var(txn.slot)]"


def _apps(shape: Shape) -> Iterator[str]:
    if not shape.app_ports:
        return
    yield "frontend apps from base"
    for first, last in _runs(shape.app_ports):
        yield f"  bind {_address(shape.host)}:{first}" + (f"-{last}" if last > first else "")
    yield from _log()
    yield "  http-request set-var(txn.slot) dst_port"
    yield from _clean_headers()
    yield from _route(shape, "if !routed")
    yield "  use_backend p%[var(txn.slot)]"


def _again(shape: Shape) -> Iterator[str]:
    """Where a request goes whose app has no replica left. Its headers were cleaned and its caller checked before."""
    yield f"frontend {AGAIN} from base"
    yield f"  bind {_quoted(f'unix@{shape.again_socket}')} mode 600 accept-proxy"
    yield f"  http-request set-var(txn.slot) req.hdr(host),host_only,lower,map_str({HOSTS})"
    yield f"  http-request set-var(txn.slot) dst_port if {{ dst_port,map_str({SLOTS}) -m found }}"
    yield f"  http-request set-var(txn.route) var(txn.slot),map_str({SLOTS})"
    yield "  http-request set-var(txn.app) var(txn.route),field(1,|)"
    yield _refuse(answers.NO_APP_HERE, "unless { var(txn.route) -m found }")
    yield _refuse(answers.STOPPED, "if { var(txn.route),field(3,|) -m str stopped }")
    yield _refuse(answers.APP_AWAY, "if { req.hdr(x-flyte-again) -m found }")  # once around is enough
    yield "  http-request set-header x-flyte-again 1"
    yield "  http-request lua.hold"
    yield "  use_backend p%[var(txn.slot)]"


def _control(shape: Shape) -> Iterator[str]:
    # A unix socket that is away refuses at once, and HAProxy pauses only where the refusal takes time. So the first
    # refusal marks the server down, and requests take the spare way, where they wait for the socket to be back.
    api = _quoted(f"unix@{shape.api_socket}")
    spare = _quoted(f"unix@{shape.waiting_socket}")
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
        yield _error(answer)


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
        yield _error(answer)


# --------------------------------------------------------------------------------------------------------- the rules


def _log() -> Iterator[str]:
    entry = ",".join(
        (
            '"time":%Ts.%ms',
            '"method":"%HM"',
            '"path":"%[var(txn.path),json(utf8s)]"',
            '"status":%ST',
            '"total_ms":%Ta',
            '"upstream_ms":%Tr',
            '"held_ms":%[var(txn.held,0)]',
            '"bytes":%B',
            '"caller":"%[var(txn.caller),json(utf8s)]"',
            '"client":"%ci"',
            '"replica":"%s"',
            '"websocket":%[var(txn.websocket,false)]',
            '"ended":"%ts"',
        )
    )
    yield "  log ring@access format raw local0 info"
    yield f"  log-format {_quoted('%[var(txn.app)] {' + entry + '}')}"


def _clean_headers() -> Iterator[str]:
    """What a client may not say about itself, and what apps and the control plane are told of it."""
    yield "  http-request del-header x-flyte- -m beg"
    yield "  http-request set-header x-forwarded-for %[src]"
    yield "  http-request set-header x-forwarded-proto http"
    yield "  http-request set-header x-forwarded-proto https if { ssl_fc }"
    yield "  http-request set-header x-forwarded-host %[req.hdr(host)]"
    yield "  http-request set-header x-request-id %[uuid] unless { req.hdr(x-request-id) -m found }"


def _route(shape: Shape, homeless: str) -> Iterator[str]:
    """From the slot to a request that may be passed on; `homeless` is when the slot has no route."""
    yield f"  http-request set-var(txn.route) var(txn.slot),map_str({SLOTS})"
    yield "  acl routed var(txn.route) -m found"
    yield _refuse(answers.NO_APP_HERE, homeless)
    yield "  http-request set-var(txn.app) var(txn.route),field(1,|) if routed"
    yield "  http-request set-var(txn.path) path if routed"
    yield "  http-request set-var(txn.websocket) str(true) if routed { req.hdr(upgrade) -m str -i websocket }"
    yield from _caller(shape)
    yield from _without_our_cookie()
    yield _refuse(answers.STOPPED, "if routed { var(txn.route),field(3,|) -m str stopped }")
    yield "  http-request lua.hold if routed { var(txn.route),field(3,|) -m str asleep }"


def _caller(shape: Shape) -> Iterator[str]:
    """Who calls a guarded app: by key, by identity, or by the browser's session. Whatever is not `open` is guarded."""
    yield "  acl open var(txn.route),field(2,|) -m str open"
    yield "  acl known var(txn.caller) -m found"
    yield "  acl token var(txn.token) -m found"
    yield f"  acl signed var(txn.token),jwt_verify(HS256,{_quoted(shape.identity_key)}) 1"
    yield "  acl in_time var(txn.token),jwt_payload_query('$.exp','int'),sub(txn.now) gt 0"
    yield f"  acl issued_here var(txn.token),jwt_payload_query('$.iss') -m str {shape.issuer}"
    yield "  acl of_a_key var(txn.token),jwt_payload_query('$.kind') -m str key"
    yield "  http-request set-var(txn.now) date if routed !open"
    yield "  http-request set-var(txn.token) http_auth_bearer if routed !open"
    yield "  http-request set-var(txn.token) http_auth_pass if routed !open !token"  # https://any:KEY@host/
    yield f"  http-request set-var(txn.caller) var(txn.token),sha2(256),hex,lower,map_str({KEYS}) if token"
    yield from _caller_by_identity()
    yield "  http-request del-header authorization if known !{ var(txn.route),field(2,|) -m str passing }"
    yield "  http-request unset-var(txn.token) if routed !open !known"
    yield f"  http-request set-var(txn.token) req.cook({SESSION_COOKIE}) if routed !open !known"
    yield from _caller_by_identity()
    yield _refuse(answers.NO_KEY, "if routed !open !known", "hdr www-authenticate Bearer")
    yield "  http-request set-header x-flyte-caller %[var(txn.caller)] if known"


def _caller_by_identity() -> Iterator[str]:
    """The subject of a signed token. A session that was opened with a key ends when the key is withdrawn."""
    subject = "http-request set-var(txn.caller) var(txn.token),jwt_payload_query('$.sub')"
    valid = "token !known signed in_time issued_here"
    yield f"  {subject} if {valid} !of_a_key"
    yield f"  {subject},sha2(256),hex,lower,map_str({HOLDERS}) if {valid} of_a_key"


def _without_our_cookie() -> Iterator[str]:
    """Cookies do not tell ports apart: without this each app would be handed the console's session."""
    ours = f"if routed {{ req.cook({SESSION_COOKIE}) -m found }}"
    drop = rf"^(.*;[ ]*)?{SESSION_COOKIE}=[^;]*(;[ ]*)?(.*)$"
    for _ in range(2):  # a browser may send it twice, for two paths
        yield rf"  http-request replace-header cookie {_quoted(drop)} {_quoted(chr(92) + '1' + chr(92) + '3')} {ours}"
    yield f"  http-request del-header cookie {ours}"
    yield "  http-request del-header cookie if routed { req.hdr(cookie) -m len 0 }"


def _refuse(answer: Answer, when: str, extra: str = "") -> str:
    head = f"  http-request return status {answer.status} content-type application/json"
    return " ".join(part for part in (head, _body(answer), _retry_after(answer), extra, when) if part)


def _error(answer: Answer) -> str:
    head = f"  http-error status {answer.status} content-type application/json"
    return " ".join(part for part in (head, _body(answer), _retry_after(answer)) if part)


def _body(answer: Answer) -> str:
    return f"lf-string {_quoted(answer.body)}"


def _retry_after(answer: Answer) -> str:
    return f"hdr retry-after {answer.retry_after}" if answer.retry_after is not None else ""


# ------------------------------------------------------------------------------------------------- how it is written


def _quoted(text: str) -> str:
    """One word of HAProxy's configuration, whatever is in it."""
    return "'" + text.replace("'", "'\\''") + "'"


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

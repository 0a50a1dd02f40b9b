"""The rules that HAProxy applies to a request, as lines of its configuration. Pure.

They apply in this order: headers that clients may not set are replaced (`clean_headers`); the host name of the request
is checked (`known_name`); the app's route and the caller are found (`route`).
"""

from __future__ import annotations

from collections.abc import Iterator

from tarmac.gateway import answers
from tarmac.gateway.answers import Answer
from tarmac.gateway.shape import CALLERS, ENDED, HOSTS, KEYS, SESSION_COOKIE, SLOTS, Shape

LONGEST_SIGN_IN = 8192
"""Bytes of the form that signs a browser in; it is read before the caller's key is known."""

_SIGN_IN_TIME = "10s"
"""How long that form may take to arrive."""

LONGEST_NOTE = 160
"""Bytes of a request's number, the sha256 of its key, and its session's id."""

_HOPS = 3
"""Trusted proxies in a row that are looked through for the client's address."""

ADDRESS = r"^([0-9.]+|\[[0-9a-f:.]+\])$"
"""A literal address, as it stands in a Host header."""

_PREFLIGHT = "METH_OPTIONS { req.hdr(origin) -m found } { req.hdr(access-control-request-method) -m found }"
"""A browser asks whether a page of another origin may send a request. It never sends a key with this question."""

_OPENED_BY_A_PERSON = (
    "METH_GET { req.hdr(accept) -m sub text/html } "
    "{ req.hdr(sec-fetch-mode),lower -m str navigate } { req.hdr(sec-fetch-dest),lower -m str document }"
)
"""A browser opens a page in a tab."""


def log() -> Iterator[str]:
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
    yield f"  log-format {quoted('%[var(txn.app)] {' + entry + '}')}"


def connections(shape: Shape, limit: int) -> Iterator[str]:
    """The limit on a frontend's connections, and on those of one address.

    All programs of this machine have the same address, as have all clients of a proxy that is trusted: a limit there
    would let one program shut out all others.
    """
    yield f"  maxconn {limit}"
    yield "  stick-table type ipv6 size 100k expire 10m store conn_cur"
    yield f"  acl shared_address src {' '.join(('127.0.0.0/8', '::1', *shape.trusted_proxies))}"
    yield "  tcp-request connection track-sc0 src unless shared_address"
    yield (f"  tcp-request connection reject if !shared_address {{ sc0_conn_cur gt {shape.of_one_address(limit)} }}")


def sign_in_form(shape: Shape, condition: str) -> Iterator[str]:
    """Limits for the one request with a body that is read before a key is known.

    Forms that have not arrived take up half of the front door's connections at most.
    """
    form = f"{condition} METH_POST {{ path -m beg /login }}"
    too_large = f"{form} {{ req.body_size gt {LONGEST_SIGN_IN} }}"
    yield refuse(answers.SIGN_IN_TOO_LARGE, f"if {too_large}")
    yield refuse(answers.DOOR_CROWDED, f"if {form} {{ fe_conn gt {shape.door_connections // 2} }}")
    yield f"  http-request wait-for-body time {_SIGN_IN_TIME} if {form}"
    yield refuse(answers.SIGN_IN_TOO_LARGE, f"if {too_large}")  # one that did not say how long it is


def clean_headers(shape: Shape) -> Iterator[str]:
    """Remove headers that clients may not set, and set those that apps and the control plane read.

    A name with an underscore is removed too: many servers read `X_Flyte_Caller` as `X-Flyte-Caller`.
    """
    kept = ""
    if shape.trusted_proxies:
        yield f"  http-request set-var(txn.proxied) bool(true) if {{ src {' '.join(shape.trusted_proxies)} }}"
        kept = " unless {{ var(txn.proxied) -m bool }} {{ req.hdr({0}) -m found }}"
        yield from _client_behind_proxies(shape)
    yield "  http-request del-header x-flyte- -m beg"
    yield "  http-request set-header x-forwarded-for %[src]"
    yield "  http-request set-header x-forwarded-proto %[ssl_fc,iif(https,http)]" + kept.format("x-forwarded-proto")
    yield "  http-request set-header x-forwarded-host %[req.hdr(host)]" + kept.format("x-forwarded-host")
    yield "  http-request set-header x-request-id %[uuid] unless { req.hdr(x-request-id) -m found }"


def _client_behind_proxies(shape: Shape) -> Iterator[str]:
    """Set the client to the last address in X-Forwarded-For that is not a trusted proxy; others may be forged."""
    proxies = " ".join(shape.trusted_proxies)
    for hop in range(1, _HOPS + 1):
        place = f"req.hdr(x-forwarded-for,-{hop})"
        yield f"  http-request set-src {place} if {{ src {proxies} }} {{ {place} -m found }}"


def known_name(shape: Shape) -> Iterator[str]:
    """Refuse host names other than addresses, this machine's names and the apps' names on an app's port.

    A page of a stranger can make a browser look up the stranger's own name as this machine's address (DNS rebinding);
    the page and the app are then one origin to the browser, and only the Host header tells them apart.
    """
    if "*" in shape.app_hosts:
        return
    names = " ".join(dict.fromkeys((*shape.own_names, *shape.app_hosts)))
    below = " ".join(dict.fromkeys((".localhost", f".{shape.domain.lower()}")))
    yield "  http-request set-var(txn.name) req.hdr(host),host_only,lower"
    yield f"  acl our_name var(txn.name) -m str {names}"
    yield f"  acl our_name var(txn.name) -m end {below}"
    yield f"  acl our_name var(txn.name) -m reg {quoted(ADDRESS)}"
    yield f"  acl our_name var(txn.name),map_str({HOSTS}) -m found"
    if shape.trusted_proxies:
        yield "  acl our_name var(txn.proxied) -m bool"
    yield refuse(answers.NOT_OUR_NAME, "if { req.hdr(host) -m found } !our_name")


def route(shape: Shape, homeless: str, sign_in: Iterator[str]) -> Iterator[str]:
    """Find the route of the slot and the caller; refuse or hold the request where that is called for.

    `homeless` is the condition under which the slot has no route, `sign_in` the rules that send a person who opens a
    guarded app in a browser to the sign-in page.
    """
    yield f"  http-request set-var(txn.route) var(txn.slot),map_str({SLOTS})"
    yield "  acl routed var(txn.route) -m found"
    yield refuse(answers.NO_APP_HERE, homeless)
    yield "  http-request set-var(txn.app) var(txn.route),field(1,|) if routed"
    yield "  http-request set-var(txn.path) path if routed"
    yield "  http-request set-var(txn.websocket) str(true) if routed { req.hdr(upgrade) -m str -i websocket }"
    yield from _caller(shape, sign_in)
    yield from _without_our_cookie()
    yield refuse(answers.STOPPED, "if routed { var(txn.route),field(3,|) -m str stopped }")
    yield "  http-request lua.hold if routed { var(txn.route),field(3,|) -m str asleep }"


def sign_in_of_port(shape: Shape) -> Iterator[str]:
    """On an app's own port: the front door has the same host, so the session's cookie reaches the app."""
    yield _sign_in(shape, "%[req.hdr(host),host_only]", "")


def sign_in_of_name(shape: Shape) -> Iterator[str]:
    """On the front door under the app's name: cookies of one name do not reach another, so the person goes on to the
    app's own port. Over TLS that way is closed, since the apps' ports have none."""
    yield _sign_in(shape, shape.domain, f"!{{ ssl_fc }} {{ req.hdr(host),host_only,lower -m end .{shape.domain} }}")


def _sign_in(shape: Shape, host: str, condition: str) -> str:
    place = f"http://{host}:{shape.port}/login?app=%[var(txn.slot)]&next=%[pathq,url_enc]"
    proxied = "!{ var(txn.proxied) -m bool }" if shape.trusted_proxies else ""
    when = f"if routed !open !known {_OPENED_BY_A_PERSON} {condition} {proxied}"
    return f"  http-request redirect location {quoted(place)} code 303 {when}".rstrip()


def _caller(shape: Shape, sign_in: Iterator[str]) -> Iterator[str]:
    """Find the caller of a guarded app: by key, by identity, or by the browser's session. All but `open` is guarded."""
    yield "  acl open var(txn.route),field(2,|) -m str open"
    yield "  acl known var(txn.caller) -m found"
    yield "  acl token var(txn.token) -m found"
    yield f"  acl signed var(txn.token),jwt_verify(HS256,{quoted(shape.identity_key)}) 1"
    yield "  acl in_time var(txn.token),jwt_payload_query('$.exp','int'),sub(txn.now) gt 0"
    yield f"  acl issued_here var(txn.token),jwt_payload_query('$.iss') -m str {shape.issuer}"
    yield "  acl session var(txn.token),jwt_payload_query('$.use') -m str session"
    yield f"  acl ended var(txn.token),jwt_payload_query('$.sid'),map_str({ENDED}) -m found"
    yield "  http-request set-var(txn.now) date if routed !open"
    yield "  http-request set-var(txn.token) http_auth_bearer if routed !open"
    yield "  http-request set-var(txn.token) http_auth_pass if routed !open !token"  # https://any:KEY@host/
    yield "  http-request set-var(txn.key) var(txn.token),sha2(256),hex,lower if token"
    yield f"  http-request set-var(txn.caller) var(txn.key),map_str({KEYS}) if token"
    yield "  http-request unset-var(txn.key) if token !known"
    subject = "var(txn.token),jwt_payload_query('$.sub')"
    yield f"  http-request set-var(txn.caller) {subject} if token !known signed in_time issued_here !session"
    yield "  http-request del-header authorization if known !{ var(txn.route),field(2,|) -m str passing }"
    yield "  http-request unset-var(txn.token) if routed !open !known"
    yield from _caller_by_session(shape)
    yield from _note_key()
    yield from _preflight()
    yield from sign_in
    yield refuse(answers.NO_KEY, "if routed !open !known !preflight", "hdr www-authenticate Bearer")
    yield "  http-request set-header x-flyte-caller anonymous if routed"
    yield "  http-request set-header x-flyte-caller %[var(txn.caller)] if known"


def _caller_by_session(shape: Shape) -> Iterator[str]:
    """A session counts as the key with which it was opened, as long as the key exists and the session was not ended.

    Browsers send cookies to every port of a host, from pages of any origin. So the session counts only when the app's
    own page sends the request, or a person opens the app; the browser says which (Sec-Fetch-*, else Origin).
    """
    host = "req.hdr(host),lower"
    yield f"  http-request set-var(txn.origin_is_host) {host} if routed !open !known"
    if shape.trusted_proxies:
        forwarded = "{ var(txn.proxied) -m bool } { req.hdr(x-forwarded-host) -m found }"
        yield f"  http-request set-var(txn.origin_is_host) req.hdr(x-forwarded-host),lower if {forwarded}"
    yield "  acl told_site req.hdr(sec-fetch-site) -m found"
    yield "  acl told_origin req.hdr(origin) -m found"
    yield "  acl own_site req.hdr(sec-fetch-site),lower -m str same-origin none"
    yield "  acl own_origin req.hdr(origin),lower,field(3,/),strcmp(txn.origin_is_host) eq 0"
    yield "  acl opened req.hdr(sec-fetch-mode),lower -m str navigate"
    yield "  acl as_page req.hdr(sec-fetch-dest),lower -m str document"
    yield "  acl reads method GET HEAD"
    yield "  acl upgrades req.hdr(upgrade) -m found"
    own_pages = (
        "told_site own_site",
        "told_site !told_origin opened as_page reads !upgrades",
        "!told_site told_origin own_origin",
        "!told_site !told_origin reads !upgrades",
    )
    for own_page in own_pages:
        yield f"  http-request set-var(txn.token) req.cook({SESSION_COOKIE}) if routed !open !known !token {own_page}"
    counts = "token !known signed in_time issued_here session !ended"
    yield f"  http-request set-var(txn.key) var(txn.token),jwt_payload_query('$.key') if {counts}"
    yield f"  http-request set-var(txn.session) var(txn.token),jwt_payload_query('$.sid') if {counts}"
    yield f"  http-request set-var(txn.caller) var(txn.key),map_str({KEYS}) if {counts}"


def _note_key() -> Iterator[str]:
    """Note the key, and the browser's session, of each request that was let in by one, for as long as it is open.

    When a key is revoked, or a session signed out, the controller finds its requests in this table and ends them. `%rt`
    is the number by which `show sess` knows the request.
    """
    let_in = "if known { var(txn.key) -m found }"
    yield f"  http-request set-var-fmt(txn.let_in) %rt/%[var(txn.key)]/%[var(txn.session)] {let_in}"
    yield f"  http-request track-sc1 var(txn.let_in) table {CALLERS} {let_in}"


def callers(shape: Shape) -> Iterator[str]:
    """The table itself: a request's entry stays while the request is open, and a second longer."""
    yield f"backend {CALLERS} from base"
    yield f"  stick-table type string len {LONGEST_NOTE} size {shape.maxconn} expire 1s"


def _preflight() -> Iterator[str]:
    """A page of another origin may call a guarded app with a key, if the app's own answer allows it.

    The preflight request reaches the app without a caller. It does not wake a sleeping app, since a client without a
    key must not wake one. The gateway then answers yes, which reveals nothing, since the request itself needs the key.
    """
    yield f"  http-request set-var(txn.preflight) bool(true) if routed !open !known {_PREFLIGHT}"
    yield "  acl preflight var(txn.preflight) -m bool"
    headers = (
        "hdr access-control-allow-origin %[req.hdr(origin)]",
        "hdr access-control-allow-methods %[req.hdr(access-control-request-method)]",
        "hdr access-control-allow-headers %[req.hdr(access-control-request-headers)]",
        "hdr access-control-max-age 0",
        "hdr vary origin",
    )
    yield (
        f"  http-request return status 204 {' '.join(headers)} "
        "if preflight !{ var(txn.route),field(3,|) -m str ready }"
    )


def _without_our_cookie() -> Iterator[str]:
    """Remove the console's session cookie: cookies do not depend on the port, so each app would receive it."""
    ours = f"if routed {{ req.cook({SESSION_COOKIE}) -m found }}"
    drop = rf"^(.*;[ ]*)?{SESSION_COOKIE}=[^;]*(;[ ]*)?(.*)$"
    for _ in range(2):  # a browser may send it twice, for two paths
        yield rf"  http-request replace-header cookie {quoted(drop)} {quoted(chr(92) + '1' + chr(92) + '3')} {ours}"
    yield f"  http-request del-header cookie {ours}"
    yield "  http-request del-header cookie if routed { req.hdr(cookie) -m len 0 }"


def refuse(answer: Answer, when: str, extra: str = "") -> str:
    head = f"  http-request return status {answer.status} content-type application/json"
    return " ".join(part for part in (head, _body(answer), _retry_after(answer), extra, when) if part)


def error(answer: Answer) -> str:
    """Replace HAProxy's own answer for this status."""
    head = f"  http-error status {answer.status} content-type application/json"
    return " ".join(part for part in (head, _body(answer), _retry_after(answer)) if part)


def _body(answer: Answer) -> str:
    return f"lf-string {quoted(answer.body)}"


def _retry_after(answer: Answer) -> str:
    return f"hdr retry-after {answer.retry_after}" if answer.retry_after is not None else ""


def quoted(text: str) -> str:
    """Quote any text as one word of HAProxy's configuration."""
    return "'" + text.replace("'", "'\\''") + "'"

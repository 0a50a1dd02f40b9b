"""What stands before an app, and what it costs: small requests before FastAPI and before bare ASGI, WebSockets, large
bodies, streamed answers.

All contenders lead to the same process of the app. It is guarded, so ours checks the key of every request and writes it
into the access log; the others do neither. "ours, open" is another process of the same app, which asks for no key.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import house, load, proxies, size
from benchmarks.sample import Sample, Samples, interleave

_LARGE = 200_000_000


def gateway() -> list[Sample]:
    sample = Samples("gateway")
    with house.running() as env:
        house.deploy(env, "webapp.py", "guarded")
        house.deploy(env, "webapp.py", "env")
        house.deploy(env, "bare.py", "env")
        key = house.headers(env)
        _before_fastapi(sample, env, key)
        _before_bare(sample, env, key)
    return sample.all()


def _before_fastapi(sample: Samples, env: dict[str, str], key: dict[str, str]) -> None:
    upstream = house.direct(env, "bench-guarded")
    body = '{"name": "Ann", "numbers": [1, 2, 3]}'
    get = load.Request(expect='"pid"', headers=key, check_all=False)
    post = load.Request(expect='"numbers":[1,2,3]', method="POST", body=body, headers=key, check_all=False)
    with proxies.in_front_of(upstream.removeprefix("http://")) as others:
        contenders = {"ours": house.app(env, "bench-guarded")["url"], **others, "no proxy": upstream}
        contenders["ours, open"] = house.app(env, "bench-app")["url"]
        for connections in (1, 16, 64):
            _small(sample, contenders, "GET", get, connections)
            posted = {who: f"{url}/json" for who, url in contenders.items()}
            _small(sample, posted, "JSON POST", post, connections)


def _before_bare(sample: Samples, env: dict[str, str], key: dict[str, str]) -> None:
    upstream = house.direct(env, "bench-bare")
    get = load.Request(expect='"ok"', headers=key, check_all=False)
    with proxies.in_front_of(upstream.removeprefix("http://")) as others:
        contenders = {"ours": house.app(env, "bench-bare")["url"], **others, "no proxy": upstream}
        for connections in (1, 16):
            _small(sample, contenders, "bare ASGI, GET", get, connections)
        _sockets(sample, contenders, key)
        _in_turns(
            contenders,
            3,
            lambda who, url: load.first_bytes(
                url, key, size.of(50, 5), sample(f"{who}: first part of a streamed answer")
            ),
        )
        bytes_ = size.of(_LARGE, _LARGE // 10)
        _in_turns(contenders, 3, lambda who, url: load.down(url, key, bytes_, sample(f"{who}: 200 MB down", "MB/s")))
        _in_turns(contenders, 3, lambda who, url: load.up(url, key, bytes_, sample(f"{who}: 200 MB up", "MB/s")))


def _in_turns(contenders: dict[str, str], rounds: int, measure: Callable[[str, str], None]) -> None:
    turns = {who: lambda who=who, url=url: measure(who, url) for who, url in contenders.items()}
    interleave(size.rounds(rounds), turns)


def _small(sample: Samples, contenders: dict[str, str], what: str, request: load.Request, connections: int) -> None:
    what = f"{what}, {connections} connection{'s' if connections > 1 else ''}"

    def measure(who: str, url: str) -> None:
        rate = sample(f"{who}: {what}", "1/s")
        load.ask(url, request, connections, size.seconds(2), sample(f"{who}: {what}, latency"), rate)

    _in_turns(contenders, 3, measure)


def _sockets(sample: Samples, contenders: dict[str, str], key: dict[str, str]) -> None:
    for sockets in (1, 100):
        what = f"WebSocket messages, {sockets} socket{'s' if sockets > 1 else ''}"

        def measure(who: str, url: str, sockets: int = sockets, what: str = what) -> None:
            rate = sample(f"{who}: {what}", "1/s")
            load.ping_pong(f"{url}/echo", key, sockets, size.seconds(2), sample(f"{who}: {what}, round trip"), rate)

        _in_turns(contenders, 3, measure)

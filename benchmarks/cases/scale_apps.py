"""A thousand deployed apps that sleep, beside a platform that has one app: memory, `flyte up`, and what the one that is
awake takes to answer.

A deploy starts what it deploys, so one sleeping app is deployed, and copied with SQL while the platform is down.
"""

from __future__ import annotations

import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing

from benchmarks import house, load, size
from benchmarks.sample import Sample, Samples, interleave

_PORTS = {"ours, many apps": "18000-19199", "one app": "20000-21199"}
"""The apps' own ports: as many on both platforms, since each costs HAProxy a listener."""


def scale_apps() -> list[Sample]:
    count = size.of(1000, 50)
    sample = Samples("scale-apps")
    platforms = {who: house.environment(house.new_home(), app_ports=ports) for who, ports in _PORTS.items()}
    many, one = platforms.values()
    for env in platforms.values():
        with house.up(env):
            house.deploy(env, "bare.py", "env")
            house.deploy(env, "webapp.py", "sleeper")
    _fill(many, count)
    interleave(size.rounds(3), {who: lambda who=who: _start(sample, who, platforms[who]) for who in platforms})
    with house.up(many), house.up(one):
        for env in platforms.values():
            _first_answer(env, "bench-bare", "", b"ok")
        _latency(sample, platforms)
        for who, env in platforms.items():
            for part, size_ in house.memory(env).items():
                sample(f"{who}: {_NAMES[part]}, PSS", "MB").values.append(size_)
        listed = house.ask(many, "/v1/apps?limit=1000")
        assert sum(app["status"] == "sleeping" for app in listed) >= min(count, 999), len(listed)
        with sample("ours, many apps: wake one of them").timed():
            _first_answer(many, f"idle-{count // 2:04d}", "greeting/Ann", b"Hello, Ann!")
    return sample.all()


_NAMES = {
    "all": "all processes",
    "haproxy": "HAProxy",
    "controller": "the gateway controller",
    "control": "control plane",
}


def _fill(env: dict[str, str], count: int) -> None:
    with closing(sqlite3.connect(house.database(env))) as database:
        taken = {row[0] for row in database.execute("select port from apps")}
        ports = iter(port for port in range(18000, 19200) if port not in taken)
        names = [f"idle-{number:04d}" for number in range(count)]
        _copy(database, "apps", [{"name": name, "port": next(ports)} for name in names])
        (spec,) = database.execute("select spec from app_versions where name = 'bench-sleeper'").fetchone()
        specs = [spec.replace(b'"bench-sleeper"', f'"{name}"'.encode()) for name in names]
        _copy(
            database,
            "app_versions",
            [{"name": name, "spec": spec} for name, spec in zip(names, specs, strict=True)],
        )
        database.commit()


def _copy(database: sqlite3.Connection, table: str, changes: list[dict[str, object]]) -> None:
    """A copy of the sleeping app's row with each of the changes."""
    columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
    row = database.execute(f"select * from {table} where name = 'bench-sleeper'").fetchone()
    template = dict(zip(columns, row, strict=True))
    database.executemany(
        f"insert into {table} ({', '.join(columns)}) values ({', '.join(f':{name}' for name in columns)})",
        [{**template, **change} for change in changes],
    )


def _latency(sample: Samples, platforms: dict[str, dict[str, str]]) -> None:
    def turn(who: str, connections: int) -> None:
        env = platforms[who]
        request = load.Request(expect='"ok"', headers=house.headers(env), check_all=False)
        what = f"an awake app's answer, {connections} connection{'s' if connections > 1 else ''}"
        rate = sample(f"{who}: {what}", "1/s")
        url = house.app(env, "bench-bare")["url"]
        load.ask(url, request, connections, size.seconds(2), sample(f"{who}: {what}, latency"), rate)

    for connections in (1, 16):
        turns = {who: lambda who=who, connections=connections: turn(who, connections) for who in platforms}
        interleave(size.rounds(3), turns)


def _start(sample: Samples, who: str, env: dict[str, str]) -> None:
    with sample(f"{who}: flyte up until ready").timed():
        house.flyte("up", "--port", "0", env=env)
    house.flyte("down", env=env)


def _first_answer(env: dict[str, str], name: str, path: str, expect: bytes) -> None:
    """Ask an app that sleeps. For some time after `flyte up` its port answers that it is nobody's."""
    request = urllib.request.Request(f"{house.app(env, name)['url']}/{path}", headers=house.headers(env))
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                body = answer.read()
            break
        except urllib.error.HTTPError as error:
            if error.code != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    assert expect in body, body

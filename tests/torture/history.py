"""Clients of the public HTTP API while parts of the platform and its database are hurt: all that they ask and are told
is written down, and judged in the end (`tests.simulation.checker`): is there an order in which all answers are right?
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.world import World
from tests.platform_fixture import Platform, wait_for
from tests.simulation.checker import TERMINAL, Asked, check
from tests.torture.disk import Disk, slow_sqlite
from tests.torture.fail_over import Pair
from tests.torture.killing import Killer, strike
from tests.torture.victims import Victims

STRIKES = ("control", "control stopped", "control ended", "gateway", "haproxy", "several")
"""What is done to the platform (`killing.WEIGHTS`)."""

IN_ORDER = ("control ended",)
"""What exits with 0, if it can write what it has: not where the database is hurt."""

MARKS = 40
"""Names, and idempotency keys."""

CLIENTS = 8

PROGRAM = """
import time
import flyte

env = flyte.TaskEnvironment(name="h")


@env.task
def add(x: int) -> int:
    return x + 1


@env.task
def slow(x: int) -> int:
    time.sleep(x / 1000)
    return x


@env.task
def bad(x: int) -> int:
    raise ValueError("no")
"""

TASKS = [("h.add", 1), ("h.slow", 150), ("h.bad", 1)]
"""Tasks and inputs; a name or key belongs to one of them."""

LOST = (502, 503, 504)
"""Answers that do not say whether the call was carried out."""

Hazards = Mapping[str, Callable[[random.Random], None]]
"""What is done to the database besides: name → doing it, until it is over."""

Told = tuple[int, str]
"""An event: its number, and the root's phase."""


@dataclass
class Stream:
    run: str
    snapshot: Told | None = None
    events: list[Told] = field(default_factory=list)


class Recorder:
    def __init__(self, http: httpx.AsyncClient, seed: int) -> None:
        self.history: list[Asked] = []
        self.odd: list[str] = []
        """Answers that no call should get."""
        self.streams: list[Stream] = []
        self._http = http
        self._chance = random.Random(f"history {seed}")
        self._seen: list[str] = []
        self._jobs: set[asyncio.Task[None]] = set()

    async def live(self, until: float) -> None:
        """Ask all sorts of things until then, and go on with the streams until their runs are over."""
        await asyncio.gather(*(self._client(until) for _ in range(CLIENTS)))
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=60)
        self.odd += [f"the stream of {job.get_name()} never ends" for job in self._jobs]

    async def _client(self, until: float) -> None:
        chance = self._chance
        kinds = {"create": 12, "get": 12, "abort": 3, "list": 5, "actions": 3, "wait": 2, "stream": 2}
        while time.monotonic() < until:
            await asyncio.sleep(chance.expovariate(1 / 0.03))
            kind = chance.choices(list(kinds), list(kinds.values()))[0]
            name = f"n{chance.randrange(MARKS)}" if chance.random() < 0.4 or not self._seen else self._seen[-1]
            await getattr(self, f"_{kind}")(name)

    async def _ask(self, asked: Asked, method: str, path: str, **options: Any) -> Any:
        """What is answered; None where that is nothing, or nobody knows."""
        asked.at = time.monotonic()
        self.history.append(asked)
        try:
            answer = await self._http.request(method, path, **options)
        except (httpx.HTTPError, OSError):
            return None
        if answer.status_code in LOST:
            return None
        asked.till = time.monotonic()
        known = {404: "not found", 409: "refused"}
        if answer.status_code in known:
            asked.answer = known[answer.status_code]
        elif answer.status_code >= 400:
            asked.answer = "error"
            self.odd.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        else:
            asked.answer = "answered" if asked.kind != "create" else "created" if answer.status_code == 201 else "found"
            return answer.json()
        return None

    def _says(self, asked: Asked, name: str, record: dict[str, Any]) -> None:
        asked.says.append((name, record["phase"], record.get("attempt", 1), asked.till or 0))

    async def _create(self, _: str) -> None:
        chance = self._chance
        mark, number = chance.choice(["name", "key", "none"]), chance.randrange(MARKS)
        task, x = TASKS[number % len(TASKS)]
        asked = Asked("create", f"n{number}" if mark == "name" else None, f"k{number}" if mark == "key" else None)
        body = {"task": task, "inputs": {"x": x}} | ({"name": asked.name} if asked.name else {})
        headers = {"Idempotency-Key": asked.key} if asked.key else {}
        run = await self._ask(asked, "POST", "/v1/runs", json=body, headers=headers)
        if run is not None:
            asked.run = run["name"]
            self._says(asked, asked.run, run)
            self._seen.append(asked.run)

    async def _one(self, asked: Asked, method: str, path: str, **options: Any) -> None:
        run = await self._ask(asked, method, path, **options)
        if run is not None:
            asked.answer = run["phase"]
            self._says(asked, run["name"], run)

    async def _get(self, name: str) -> None:
        await self._one(Asked("get", name), "GET", f"/v1/runs/{name}")

    async def _wait(self, name: str) -> None:
        await self._one(Asked("wait", name), "GET", f"/v1/runs/{name}", params={"wait": 0.3})

    async def _abort(self, name: str) -> None:
        await self._one(Asked("abort", name), "POST", f"/v1/runs/{name}/abort", json={})

    async def _list(self, _: str) -> None:
        asked = Asked("list")
        runs = await self._ask(asked, "GET", "/v1/runs", params={"limit": 100})
        if runs is not None:
            asked.names = frozenset(run["name"] for run in runs) if len(runs) < 100 else None
            for run in runs:
                self._says(asked, run["name"], run)

    async def _actions(self, name: str) -> None:
        asked = Asked("actions", name)
        for action in await self._ask(asked, "GET", f"/v1/runs/{name}/actions") or []:
            if action["name"] == "a0":
                self._says(asked, name, action)

    async def _stream(self, name: str) -> None:
        job = asyncio.create_task(self._watch(name), name=name)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _watch(self, name: str) -> None:
        """As the SDK does: a stream that is cut off goes on after the last number that was heard."""
        asked, stream, after = Asked("stream", name, at=time.monotonic()), Stream(name), None
        self.history.append(asked)
        while True:
            try:
                async for kind, seq, record in self._follow(name, after):
                    if kind == "snapshot":
                        stream.snapshot = (seq, record["phase"])
                        self.streams.append(stream)
                    else:
                        stream.events.append((seq, record["phase"]))
                    after = seq
                    asked.says.append((name, record["phase"], record.get("attempt", 1), time.monotonic()))
                    if record["phase"] in TERMINAL:
                        return
            except LookupError:
                return
            except (httpx.HTTPError, OSError):
                pass
            await asyncio.sleep(0.05)

    async def _follow(self, name: str, after: int | None) -> Any:
        """The kind, number and record of each event. Raises LookupError where there is no such run."""
        parameters = {} if after is None else {"after": after}
        async with self._http.stream("GET", f"/v1/runs/{name}/events", params=parameters, timeout=20) as answer:
            if answer.status_code == 404:
                raise LookupError(name)
            kind, seq = "", 0
            async for line in answer.aiter_lines() if answer.status_code == 200 else _nothing():
                word, _, rest = line.partition(":")
                match word:
                    case "id":
                        seq = int(rest)
                    case "event":
                        kind = rest.strip()
                    case "data":
                        yield kind, seq, json.loads(rest)

    async def check_streams(self) -> list[str]:
        """Each stream told everything after its snapshot, in order, once: as a stream tells it that begins now."""
        wrong, tables = [], dict[str, list[Told]]()
        for stream in self.streams:
            if stream.run not in tables:
                tables[stream.run] = [(seq, record["phase"]) async for _, seq, record in self._follow(stream.run, 0)]
            assert stream.snapshot is not None
            want = [told for told in tables[stream.run] if told[0] > stream.snapshot[0]]
            if stream.events != want:
                wrong.append(f"the stream of {stream.run} told {stream.snapshot}, {stream.events}; there is {want}")
        return wrong


async def _nothing() -> Any:
    for line in list[str]():
        yield line


def on_small_disk(platform: Platform, disk: Disk) -> Hazards:
    database = platform.home / "tarmac.db"
    return {
        "disk full": lambda chance: disk.fill(chance.uniform(0.3, 8)),
        "disk slow": lambda chance: slow_sqlite(database, chance.uniform(0.2, 3)),
    }


def on_two_servers(pair: Pair) -> Hazards:
    return {
        "fail-over": lambda _: pair.fail_over(),
        "database slow": lambda chance: pair.forwarder.hold(chance.uniform(0.2, 3)),
    }


def record(platform: Platform, seconds: float, seed: int, hazards: Hazards | None = None) -> dict[str, Any]:
    """Figures, with `violations`. The platform is started here, and is down at the end."""
    platform.up()
    done = platform.cli("deploy", platform.write("h.py", PROGRAM))
    assert done.code == 0, done.both
    world = World(platform)
    killer = Killer(world, Victims(world, lambda: set(), "", platform.work), platform.up)
    try:
        recorder, wrong, hurt = asyncio.run(_record(platform, killer, seconds, seed, hazards or {}))
    finally:
        world.http.close()
        platform.down()
    answered = sum(asked.till is not None for asked in recorder.history)
    return {
        "operations": len(recorder.history),
        "answered": answered,
        "kinds": dict(Counter(asked.kind for asked in recorder.history)),
        "streams": len(recorder.streams),
        "strikes": killer.counts,
        "hazards": hurt,
        "violations": [*killer.violations, *recorder.odd, *wrong],
    }


async def _record(
    platform: Platform, killer: Killer, seconds: float, seed: int, hazards: Hazards
) -> tuple[Recorder, list[str], Counter[str]]:
    until = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=300)
    async with platform.async_client(limits=limits) as http:
        recorder = Recorder(http, seed)
        strikes = [kind for kind in STRIKES if not hazards or kind not in IN_ORDER]
        _, _, hurt = await asyncio.gather(
            recorder.live(until), _hurt(killer, until, seed, strikes), _hurt_database(hazards, until, seed)
        )
        await asyncio.to_thread(wait_for, killer.world.answers, "the platform is whole again", 60, platform.log_tails)
        return recorder, [*check(recorder.history), *await recorder.check_streams()], hurt


async def _hurt(killer: Killer, until: float, seed: int, strikes: Collection[str]) -> None:
    number = 0
    while True:
        coming = strike(seed, number, strikes)
        number += 1
        if time.monotonic() + coming.pause > until:
            return
        await asyncio.sleep(coming.pause)
        await asyncio.to_thread(killer.strike, coming)


async def _hurt_database(hazards: Hazards, until: float, seed: int) -> Counter[str]:
    """One after the other, in turns; how often each was done."""
    chance, counts = random.Random(f"hazards {seed}"), Counter[str]()
    for name in itertools.cycle(hazards):
        await asyncio.sleep(chance.uniform(1, 5))
        if time.monotonic() > until:
            break
        await asyncio.to_thread(hazards[name], chance)
        counts[name] += 1
    return counts

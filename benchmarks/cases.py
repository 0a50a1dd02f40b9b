"""The benchmarks, one function each: it starts what it needs, measures ours and the floors and peers that are there,
and returns the samples, ours first.

Peers that are not installed are left out; the floors (`python -c pass`, a fork, a pool, nginx) need nothing more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import multiprocessing
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks import house
from benchmarks.sample import Sample, interleave

Case = Callable[[], list[Sample]]

SUBMIT = """
import json, sys, time
import flyte, flyte.remote as remote
flyte.init_from_config()
task = remote.Task.get(sys.argv[1], auto_version="latest")
values = []
for i in range(int(sys.argv[2]) + 20):
    began = time.perf_counter()
    run = flyte.run(task, **json.loads(sys.argv[3]))
    run.wait(quiet=True)
    values.append((time.perf_counter() - began) * 1e3)
    assert run.status == "succeeded", run.status
print(json.dumps(values[20:]))
"""

STREAM = """
import asyncio, json, time
import flyte, flyte.remote as remote
async def main():
    await flyte.init_from_config.aio()
    task = remote.Task.get("bench-reused.add_again", auto_version="latest")
    values = []
    for i in range(120):
        run = await flyte.run.aio(task, x=i)
        async for update in run.stream():
            if update.status == "succeeded":
                values.append((time.time() - update.at.timestamp()) * 1e3)
    print(json.dumps(values[20:]))
asyncio.run(main())
"""


def start() -> list[Sample]:
    """From nothing to an answer, and what the idle platform weighs."""
    importing = Sample("start", "import flyte, over `pass`", "ms")
    help_text = Sample("start", "flyte --help", "ms")
    floor = Sample("start", "python -c pass", "ms")
    up = Sample("start", "flyte up until ready", "ms")
    idle = Sample("start", "idle platform, PSS of all processes", "MB")
    first = Sample("start", "program on a stopped platform → first result", "ms")
    whole = Sample("start", "python -c 'import flyte'", "ms")

    def cold() -> None:
        with tempfile.TemporaryDirectory(prefix="tarmac-bench-") as folder:
            env = house.environment(Path(folder)) | {"TARMAC_PORT": str(_free_port())}
            with up.timed():
                house.flyte("up", env=env)
            idle.values.append(house.resident(env))
            house.flyte("down", env=env)
            with first.timed():
                house.client(FIRST, env)
            house.flyte("down", env=env)

    interleave(
        7,
        {
            "pass": lambda: _command(floor, [sys.executable, "-c", "pass"]),
            "import": lambda: _command(whole, [sys.executable, "-c", "import flyte"]),
            "help": lambda: _command(help_text, [str(Path(sys.executable).parent / "flyte"), "--help"]),
        },
    )
    importing.values = [value - floor.median for value in whole.values]
    interleave(3, {"cold": cold})
    return [up, first, importing, help_text, idle, floor]


FIRST = """
import json
import flyte
from trivial import add
flyte.init_from_config(root_dir=".")
run = flyte.run(add, x=41)
run.wait(quiet=True)
assert list(run.outputs()) == [42]
print(json.dumps([0]))
"""


def run() -> list[Sample]:
    """One trivial task, warm, from a client process: submit → result."""
    reused = Sample("run", "ours, reused process", "ms")
    fresh = Sample("run", "ours, a fresh process each", "ms")
    http = Sample("run", "ours, reused, plain HTTP", "ms")
    python = Sample("run", "floor: python -c pass", "ms")
    pool = Sample("run", "floor: ProcessPoolExecutor", "ms")
    forkserver = Sample("run", "floor: multiprocessing forkserver", "ms")
    with house.running() as env, concurrent.futures.ProcessPoolExecutor(1) as executor:
        house.flyte("deploy", str(house.PROGRAMS / "trivial.py"), "--all", env=env)
        context = multiprocessing.get_context("forkserver")
        executor.submit(abs, -1).result()
        interleave(
            3,
            {
                "reused": lambda: reused.values.extend(_submit(env, "bench-reused.add_again", 300)),
                "fresh": lambda: fresh.values.extend(_submit(env, "bench-fresh.add", 150)),
                "http": lambda: asyncio.run(_post_runs(env, http, 200)),
                "python": lambda: [_command(python, [sys.executable, "-c", "pass"]) for _ in range(10)],
                "pool": lambda: _calls(pool, 300, lambda: executor.submit(abs, -1).result()),
                "forkserver": lambda: _calls(forkserver, 10, lambda: _process(context)),
            },
        )
    return [reused, fresh, http, pool, forkserver, python]


def fan_out() -> list[Sample]:
    """Trivial children of one parent, in children per second."""
    reused = Sample("fan-out", "ours, reused, 5,000 children", "1/s", better="more")
    fresh = Sample("fan-out", "ours, fresh processes, 1,000 children", "1/s", better="more")
    pool = Sample("fan-out", "floor: ProcessPoolExecutor, 5,000", "1/s", better="more")
    forkserver = Sample("fan-out", "floor: forkserver, 100", "1/s", better="more")

    def rate(sample: Sample, count: int, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        sample.values.append(count / (time.perf_counter() - began))

    with house.running() as env, concurrent.futures.ProcessPoolExecutor(2) as executor:
        house.flyte("deploy", str(house.PROGRAMS / "trivial.py"), "--all", env=env)
        _submit(env, "bench-reused.fan_again", 1, n=50)
        _submit(env, "bench-reused.fan", 1, n=20)
        context = multiprocessing.get_context("forkserver")
        interleave(
            3,
            {
                "reused": lambda: reused.values.extend(
                    5000 / (ms / 1e3) for ms in _submit(env, "bench-reused.fan_again", 1, warm=0, n=5000)
                ),
                "fresh": lambda: fresh.values.extend(
                    1000 / (ms / 1e3) for ms in _submit(env, "bench-reused.fan", 1, warm=0, n=1000)
                ),
                "pool": lambda: rate(pool, 5000, lambda: [f.result() for f in _submitted(executor, 5000)]),
                "forkserver": lambda: rate(forkserver, 100, lambda: [_process(context) for _ in range(100)]),
            },
        )
    return [reused, fresh, pool, forkserver]


def webhook() -> list[Sample]:
    """POST → task → result in the answer, one and sixteen at a time."""
    samples = []
    with house.running() as env:
        house.flyte("deploy", str(house.PROGRAMS / "trivial.py"), "--all", env=env)
        house.flyte("deploy", str(house.PROGRAMS / "webapp.py"), "env", env=env)
        url = _app_url(env, "bench-app")
        for task, name in (("bench-reused.add_again", "reused"), ("bench-fresh.add", "fresh")):
            for connections in (1, 16):
                latency = Sample("webhook", f"{name}, {connections} at a time: latency", "ms")
                rate = Sample("webhook", f"{name}, {connections} at a time: rate", "1/s", better="more")
                body = {"json": {"x": 1}}
                asyncio.run(_load(f"{url}/run/{task}", "POST", body, connections, 1, latency, rate))
                latency.values.clear()
                rate.values.clear()
                for _ in range(3):
                    asyncio.run(_load(f"{url}/run/{task}", "POST", body, connections, 3, latency, rate))
                samples += [rate, latency]
    return samples


def gateway() -> list[Sample]:
    """Small answers and WebSocket ping-pong, through the gateway, through nginx, and without either."""
    samples: dict[str, Sample] = {}

    def sample(who: str, what: str, unit: str) -> Sample:
        better = "more" if unit == "1/s" else "less"
        return samples.setdefault(f"{what} {who}", Sample("gateway", f"{who}: {what}", unit, better=better))

    with house.running() as env:
        house.flyte("deploy", str(house.PROGRAMS / "webapp.py"), "env", env=env)
        ours = _app_url(env, "bench-app")
        address = json.loads(house.flyte("get", "app", "bench-app", "-o", "json", env=env))
        record = address[0] if isinstance(address, list) else address
        direct = f"http://{record['replicas'][0]['address']}"
        with _nginx(direct) as nginx:
            contenders = {"ours": ours, "no proxy": direct} | ({"nginx": nginx} if nginx else {})
            for connections in (1, 16, 64):
                for _ in range(3):
                    for who, url in contenders.items():
                        latency = sample(who, f"GET, {connections} connections, latency", "ms")
                        rate = sample(who, f"GET, {connections} connections", "1/s")
                        asyncio.run(_load(f"{url}/", "GET", {}, connections, 2, latency, rate))
            for _ in range(3):
                for who, url in contenders.items():
                    asyncio.run(_ping_pong(f"{url}/echo", sample(who, "WebSocket round trip", "ms")))
    return list(samples.values())


def app_to_app() -> list[Sample]:
    """The document's own app → app code: an `httpx.AsyncClient` for every call."""
    samples = []
    with house.running() as env:
        house.flyte("deploy", str(house.PROGRAMS / "webapp.py"), "env", env=env)
        url = _app_url(env, "bench-app")
        for connections in (1, 16):
            latency = Sample("app-to-app", f"as the document writes it, {connections} at a time: latency", "ms")
            rate = Sample("app-to-app", f"as the document writes it, {connections} at a time", "1/s", better="more")
            for _ in range(3):
                asyncio.run(_load(f"{url}/greeting/Ann", "GET", {}, connections, 2, latency, rate))
            samples += [rate, latency]
    return samples


def wake() -> list[Sample]:
    """A sleeping FastAPI app → its first answer; against a cold uvicorn."""
    ours = Sample("wake", "ours: sleeping FastAPI app → first 200", "ms")
    cold = Sample("wake", "cold uvicorn → first 200", "ms")
    with house.running() as env:
        house.flyte("deploy", str(house.PROGRAMS / "webapp.py"), "sleeper", env=env)
        url = _app_url(env, "bench-sleeper")

        def sleep_and_wake() -> None:
            _await_sleep(env, "bench-sleeper")
            with ours.timed():
                asyncio.run(_first_answer(f"{url}/greeting/Ann"))

        interleave(10, {"ours": sleep_and_wake, "cold": lambda: _cold_uvicorn(cold)})
    return [ours, cold]


def stream() -> list[Sample]:
    """From the moment that is written with a phase to the moment `run.stream()` gives it."""
    ours = Sample("stream", "phase → run.stream(), one subscriber", "ms")
    with house.running() as env:
        house.flyte("deploy", str(house.PROGRAMS / "trivial.py"), "--all", env=env)
        for _ in range(3):
            ours.values += house.client(STREAM, env)
    return [ours]


def deploy() -> list[Sample]:
    """Deploying what has not changed, and one changed file until the new version answers."""
    unchanged = Sample("deploy", "unchanged", "ms")
    changed = Sample("deploy", "one changed file until the new version answers", "ms")
    script = """
import json, pathlib, sys, time
import flyte
flyte.init_from_config(root_dir=".")
import webapp
began = time.perf_counter()
flyte.deploy(webapp.sleeper)
print(json.dumps([(time.perf_counter() - began) * 1e3]))
"""
    with house.running() as env, tempfile.TemporaryDirectory() as folder:
        copied = Path(folder, "webapp.py")
        source = (house.PROGRAMS / "webapp.py").read_text()
        for number in range(6):
            copied.write_text(f"{source}\n# version {number}\n")
            changed.values += _client_in(folder, script, env)
            unchanged.values += _client_in(folder, script, env)
    return [unchanged, changed]


CASES: dict[str, Case] = {
    "start": start,
    "run": run,
    "fan-out": fan_out,
    "webhook": webhook,
    "gateway": gateway,
    "app-to-app": app_to_app,
    "stream": stream,
    "deploy": deploy,
    "wake": wake,
}


# ---------------------------------------------------------------------------------------------------------- the work


def _submit(env: dict[str, str], task: str, count: int, warm: int = 20, **inputs: int) -> list[float]:
    script = SUBMIT.replace("+ 20", f"+ {warm}").replace("[20:]", f"[{warm}:]")
    return house.client(script, env, task, str(count), json.dumps(inputs or {"x": 1}))


def _client_in(folder: str, script: str, env: dict[str, str]) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return [float(value) for value in json.loads(done.stdout.splitlines()[-1])]


def _command(sample: Sample, command: list[str]) -> None:
    with sample.timed():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _calls(sample: Sample, count: int, call: Callable[[], object]) -> None:
    for _ in range(count):
        with sample.timed():
            call()


def _submitted(executor: concurrent.futures.Executor, count: int) -> list[concurrent.futures.Future[int]]:
    return [executor.submit(abs, -1) for _ in range(count)]


def _process(context: multiprocessing.context.ForkServerContext) -> None:
    process = context.Process(target=abs, args=(-1,))
    process.start()
    process.join()


async def _post_runs(env: dict[str, str], sample: Sample, count: int) -> None:
    headers = {"Authorization": f"Bearer {house.token(env)}"}
    body = {"task": "bench-reused.add_again", "inputs": {"x": 1}}
    async with aiohttp.ClientSession(house.endpoint(env), headers=headers) as session:
        for _ in range(count):
            with sample.timed():
                async with session.post("/v1/runs?wait=30", json=body) as answer:
                    record = await answer.json()
            assert record["phase"] == "succeeded", record


async def _load(
    url: str, method: str, options: dict, connections: int, seconds: float, latency: Sample, rate: Sample
) -> None:
    """As many requests as `connections` clients can make in `seconds`, one after the other each."""
    stop = time.perf_counter() + seconds
    count = 0

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal count
        while time.perf_counter() < stop:
            with latency.timed():
                async with session.request(method, url, **options) as answer:
                    await answer.read()
            assert answer.status == 200, answer.status
            count += 1

    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        await asyncio.gather(*(client(session) for _ in range(connections)))
    rate.values.append(count / (time.perf_counter() - began))


async def _ping_pong(url: str, sample: Sample) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        for _ in range(500):
            with sample.timed():
                await socket.send_str("ping")
                await socket.receive_str()


async def _first_answer(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200, await answer.text()


def _app_url(env: dict[str, str], name: str) -> str:
    found = json.loads(house.flyte("get", "app", name, "-o", "json", env=env))
    return str((found[0] if isinstance(found, list) else found)["url"])


def _await_sleep(env: dict[str, str], name: str) -> None:
    """Return when the app has no process any more; its scaling sends it to sleep a second after the last request."""
    asked = urllib.request.Request(
        f"{house.endpoint(env)}/v1/apps/{name}", headers={"Authorization": f"Bearer {house.token(env)}"}
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            app = json.load(answer)
        if app["status"] == "sleeping" and not app.get("replicas"):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{name} does not go to sleep: {app}")


def _cold_uvicorn(sample: Sample) -> None:
    port = _free_port()
    source = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/')\nasync def f(): return 1\n"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cold.py").write_text(source)
        with sample.timed():
            command = [sys.executable, "-m", "uvicorn", "cold:app", "--port", str(port), "--log-level", "error"]
            process = subprocess.Popen(command, cwd=folder)
            while True:
                try:
                    asyncio.run(_first_answer(f"http://127.0.0.1:{port}/"))
                    break
                except aiohttp.ClientConnectionError:
                    time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()


@contextmanager
def _nginx(upstream: str) -> Iterator[str | None]:
    """An nginx in front of `upstream`; None where there is none on this machine."""
    program = shutil.which("nginx")
    if program is None:
        yield None
        return
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "nginx.conf")
        config.write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\n"
            "events { worker_connections 2000; }\n"
            f"http {{ access_log {folder}/access.log; upstream app {{ server {upstream[7:]}; keepalive 128; }}\n"
            f"server {{ listen 127.0.0.1:{port} reuseport; location / {{ proxy_pass http://app;\n"
            'proxy_http_version 1.1; proxy_set_header Connection ""; }\n'
            "location /echo { proxy_pass http://app; proxy_http_version 1.1;\n"
            'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; } } }\n'
        )
        process = subprocess.Popen([program, "-c", str(config), "-p", folder], stderr=subprocess.DEVNULL)
        _await_port(port)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port}")

"""A platform of the benchmarks' own: started from the outside with the installed command, ended with it.

Its folder is kept until the whole suite is over (`clear`): a file system such as ext4 is slow to make new files for
minutes after thousands were deleted, and the next case would be measured in those minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

PROGRAMS = Path(__file__).parent / "programs"

_homes: list[Path] = []


def new_home() -> Path:
    """An empty folder, short enough for the sockets in it, which `clear` deletes."""
    home = Path(tempfile.mkdtemp(prefix="tarmac-bench-"))
    _homes.append(home)
    return home


def clear() -> None:
    """Delete every folder that was made."""
    while _homes:
        shutil.rmtree(_homes.pop(), ignore_errors=True)


def flyte(*arguments: str, env: dict[str, str], check: bool = True) -> str:
    """Run the `flyte` command of this environment; returns what it printed."""
    command = [str(Path(sys.executable).parent / "flyte"), *arguments]
    done = subprocess.run(command, env=env, cwd=PROGRAMS, capture_output=True, text=True, timeout=600, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def environment(home: Path, **settings: str) -> dict[str, str]:
    """This process's, with a home of its own; and without a certificate bundle that was set for it: that
    would take precedence over what the platform gives its processes.
    """
    left_out = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    own = {name: value for name, value in os.environ.items() if name not in left_out}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    named = {f"TARMAC_{name.upper()}": value for name, value in settings.items()}
    return {**own, "PATH": path, "TARMAC_HOME": str(home), "HOME": str(home), **named}


@contextmanager
def up(env: dict[str, str]) -> Iterator[dict[str, str]]:
    """The platform of `env`, running."""
    flyte("up", "--port", "0", env=env)
    try:
        yield env
    finally:
        flyte("down", env=env, check=False)


@contextmanager
def running(**settings: str) -> Iterator[dict[str, str]]:
    """The environment of a new platform that runs."""
    with up(environment(new_home(), **settings)) as env:
        yield env


def deploy(env: dict[str, str], program: str, *names: str) -> None:
    flyte("deploy", program, *(names or ("--all",)), env=env)


def endpoint(env: dict[str, str]) -> str:
    return str(_state(env)["endpoint"])


def token(env: dict[str, str]) -> str:
    return Path(env["TARMAC_HOME"], "token").read_text().strip()


def headers(env: dict[str, str]) -> dict[str, str]:
    """What the owner sends with a request."""
    return {"Authorization": f"Bearer {token(env)}"}


def database(env: dict[str, str]) -> Path:
    return Path(env["TARMAC_HOME"], "tarmac.db")


def ask(env: dict[str, str], path: str, body: dict[str, Any] | None = None) -> Any:
    """What the API answers to GET, or to POST where there is a body. Raises HTTPError for a refusal."""
    data = None if body is None else json.dumps(body).encode()
    told = {**headers(env), "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(endpoint(env) + path, data, told), timeout=600) as answer:
        return json.load(answer)


def run(env: dict[str, str], task: str, inputs: dict[str, Any], labels: dict[str, str] | None = None) -> Any:
    """The record of a run that is over."""
    return ask(env, "/v1/runs?wait=60", {"task": task, "inputs": inputs, "labels": labels or {}})


def app(env: dict[str, str], name: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(env, f"/v1/apps/{name}")
    return found


def direct(env: dict[str, str], name: str) -> str:
    """The URL of the app's process itself, with nothing before it."""
    return f"http://{app(env, name)['replicas'][0]['address']}"


def await_sleep(env: dict[str, str], name: str) -> None:
    """Return when the app has no process any more; its scaling sends it to sleep a second after the last request."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = app(env, name)
        if found["status"] == "sleeping" and not found.get("replicas"):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{name} does not go to sleep: {found}")


# ------------------------------------------------------------------------------------------------- client processes


@contextmanager
def started(program: str, env: dict[str, str], *arguments: str, cwd: Path = PROGRAMS) -> Iterator[subprocess.Popen]:
    """A client process that runs one of PROGRAMS, with pipes to it; ended with the block."""
    command = [sys.executable, str(PROGRAMS / program), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def client(program: str, env: dict[str, str], *arguments: str, cwd: Path = PROGRAMS, timeout: float = 1800) -> Any:
    """What the client process tells with its last line, as JSON: mostly a list of milliseconds."""
    with started(program, env, *arguments, cwd=cwd) as process:
        return result(process, timeout)


def result(process: subprocess.Popen, timeout: float = 1800) -> Any:
    """Wait for the end of a client process. Raises RuntimeError with what it complained about."""
    out, complaint = process.communicate(timeout=timeout)
    if process.returncode != 0:
        raise RuntimeError(f"{process.args}: exit code {process.returncode}\n{complaint[-4000:]}")
    return json.loads(out.splitlines()[-1])


def submit(env: dict[str, str], task: str, count: int, *, expect: int, warm: int = 20, **inputs: int) -> list[float]:
    """Milliseconds of `count` runs, one after the other, each from `flyte.run` to its value, which was `expect`."""
    return [float(ms) for ms in client("submit.py", env, *order(task, count, expect, warm, inputs or {"x": 1}))]


def order(task: str, count: int, expect: int, warm: int, inputs: dict[str, int]) -> list[str]:
    """The arguments of `submit.py`; a parent of many is warmed up with few."""
    warm_inputs = inputs if "n" not in inputs else {"n": min(50, inputs["n"])}
    return [task, str(count), str(warm), json.dumps(inputs), str(expect), json.dumps(warm_inputs)]


# ------------------------------------------------------------------------------------------------------- processes


def _state(env: dict[str, str]) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(Path(env["TARMAC_HOME"], "platform.json").read_text())
    return state


def memory(env: dict[str, str]) -> dict[str, float]:
    """Megabytes (PSS) of the platform: `all` of it, and its parts `haproxy`, `controller`, `control`."""
    supervisor = psutil.Process(_state(env)["pid"])
    found = {"all": 0.0, "haproxy": 0.0, "controller": 0.0, "control": 0.0}
    for process in [supervisor, *supervisor.children(recursive=True)]:
        try:
            command, size = " ".join(process.cmdline()), process.memory_full_info().pss / 1e6
        except psutil.NoSuchProcess:
            continue
        found["all"] += size
        for part, word in (("haproxy", "haproxy.cfg"), ("controller", "tarmac.gateway"), ("control", "tarmac.server")):
            if word in command:
                found[part] += size
    return found


def end(process: subprocess.Popen, patience: float = 20) -> None:
    """End a process that was started here, and what it leaves behind."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for other in below:
        try:
            other.kill()
        except psutil.NoSuchProcess:
            continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int, process: subprocess.Popen, patience: float = 60) -> None:
    """Return when somebody listens on `port`. Raises RuntimeError when `process`, who should, has ended."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise RuntimeError(f"{process.args}: exit code {process.returncode} before it listened on port {port}")
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port}")

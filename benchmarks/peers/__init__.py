"""Other systems that do the same work, each in an environment of its own, so that nothing of theirs is beside ours.

`python -m benchmarks peers [NAME …]` makes the environments: `.venv-bench-<name>` in the repository's folder, which git
ignores. A peer that has none is left out. Each has a program here, run by the peer's own Python, that begins what the
system needs (a broker, a server) in a folder of its own, warms it up, and ends it again. It is either asked over its
pipes for measurements (`turns.py`), or serves the webhook (`web PORT`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import house

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent


def postgres_folder() -> Path | None:
    """The folder of initdb and postgres: the newest of Debian's, else what is on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    environment: str
    packages: tuple[str, ...]
    """What is installed; the first is the system itself."""
    program: str
    arguments: tuple[str, ...] = ()
    needs: str | None = None
    """A program of the machine that it cannot do without: `redis-server` or `initdb`."""
    runs: int = 200
    """Tasks in each round, one after the other."""
    fan_out: tuple[int, ...] = (1000, 5000)
    web: bool = False
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return ROOT / f".venv-bench-{self.environment}"

    def python(self) -> Path | None:
        """Its interpreter; None where it is not installed, or the machine has not what it needs."""
        python = self.folder / "bin" / "python"
        if self.needs == "initdb":
            return python if self._is_ready() and postgres_folder() else None
        return python if self._is_ready() and (self.needs is None or shutil.which(self.needs)) else None

    def _is_ready(self) -> bool:
        return (self.folder / "bin" / "python").exists() and (self.folder / ".ready").exists()

    def versions(self) -> str:
        """Of the packages that were asked for."""
        names = [package.partition("[")[0] for package in self.packages]
        script = "import importlib.metadata as m, json, sys; print(json.dumps([m.version(n) for n in sys.argv[1:]]))"
        done = subprocess.run([self.python() or "", "-c", script, *names], capture_output=True, text=True, check=True)
        return ", ".join(f"{name} {version}" for name, version in zip(names, json.loads(done.stdout), strict=True))


_WEB = ("fastapi", "uvicorn[standard]")

PEERS = (
    Peer("Celery + Redis", "celery", ("celery[redis]", *_WEB), "with_celery.py", needs="redis-server", web=True),
    Peer("Ray", "ray", ("ray", *_WEB), "with_ray.py", web=True),
    Peer("DBOS, SQLite", "dbos", ("dbos", "psycopg[binary]"), "with_dbos.py", ("sqlite",)),
    Peer("DBOS, PostgreSQL", "dbos", ("dbos", "psycopg[binary]"), "with_dbos.py", ("postgres",), needs="initdb"),
    Peer("Prefect", "prefect", ("prefect",), "with_prefect.py", runs=20, fan_out=(1000,)),
    Peer("official SDK, in process", "flyte", ("flyte",), "with_flyte.py"),
)


def present() -> list[Peer]:
    return [peer for peer in PEERS if peer.python() is not None]


def missing() -> list[str]:
    """A line for each peer that is left out, with what would bring it in."""
    return [
        f"left out: {peer.name} (scripts/bench peers {peer.environment}{f'; needs {peer.needs}' if peer.needs else ''})"
        for peer in PEERS
        if peer.python() is None
    ]


def install(names: list[str]) -> int:
    """Make the environments of the named peers, or of all."""
    known = {peer.environment: peer for peer in PEERS}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no peer {unknown[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or known:
        peer = known[name]
        print(f"{peer.folder.name}: {', '.join(peer.packages)}", flush=True)
        _make(peer)
        if peer.needs and peer.python() is None:
            print(f"  it also needs {peer.needs}, which is not on this machine: it will be left out")
    return 0


def _make(peer: Peer) -> None:
    uv = [sys.executable, "-m", "uv"]
    has_uv = subprocess.run([*uv, "--version"], capture_output=True, check=False).returncode == 0
    shutil.rmtree(peer.folder, ignore_errors=True)
    if has_uv:
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(peer.folder)], check=True)
        install = [*uv, "pip", "install", "--quiet", "--python", str(peer.folder)]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(peer.folder)], check=True)
        install = [str(peer.folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    # trust what the system trusts, as pip does
    subprocess.run([*install, *peer.packages], check=True, env={**os.environ, "UV_SYSTEM_CERTS": "1"})
    (peer.folder / ".ready").write_text("\n".join(peer.packages))


# --------------------------------------------------------------------------------------------------------- at work


def _environment(peer: Peer, home: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TARMAC_", "FLYTE_", "VIRTUAL_"))}
    path = os.pathsep.join([str(peer.folder / "bin"), str(postgres_folder() or ""), os.environ.get("PATH", "")])
    return {**own, "PATH": path, "HOME": str(home), "BENCH_HOME": str(home), "BENCH_PORT": str(house.free_port())}


@contextmanager
def _program(peer: Peer, *arguments: str) -> Iterator[tuple[subprocess.Popen, Path]]:
    home = house.new_home()
    command = [str(peer.python()), str(FOLDER / peer.program), *peer.arguments, *arguments]
    complaints = home / "stderr"
    with complaints.open("w") as stderr:
        process = subprocess.Popen(
            command,
            env=_environment(peer, home),
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    try:
        yield process, complaints
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        house.end(process)


class Turns:
    """A peer that is up and warm, and is asked for measurements."""

    def __init__(self, peer: Peer, process: subprocess.Popen, complaints: Path) -> None:
        self._peer, self._process, self._complaints = peer, process, complaints

    def ask(self, what: str = "", number: int = 0) -> list[float]:
        """Milliseconds: of `run` as many as `number`, of `fan` one, for `number` children. Without either, wait
        until it is warm. Raises RuntimeError when it fails, or takes longer than ten minutes.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        watchdog = threading.Timer(600, self._process.kill)
        watchdog.start()
        try:
            if what:
                stdin.write(f"{what} {number}\n")
                stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watchdog.cancel()
        if not line:
            raise RuntimeError(f"{self._peer.name} failed at {what or 'its start'}:\n{_tail(self._complaints)}")
        return [float(value) for value in json.loads(line)]


def _tail(path: Path) -> str:
    return path.read_text()[-4000:]


@contextmanager
def warm(peer: Peer) -> Iterator[Turns]:
    """The peer, begun and warmed up: nothing of it is there before or after."""
    with _program(peer, "turns") as (process, complaints):
        turns = Turns(peer, process, complaints)
        turns.ask()
        yield turns


@contextmanager
def webhook(peer: Peer) -> Iterator[str]:
    """The URL of the peer's webhook: POST `{"x": 1}` → `{"status": "succeeded", "outputs": [2]}`."""
    port = house.free_port()
    with _program(peer, "web", str(port)) as (process, complaints):
        try:
            house.await_port(port, process)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{_tail(complaints)}") from None
        yield f"http://127.0.0.1:{port}/run"

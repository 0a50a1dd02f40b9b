"""A real platform for tests: `flyte up` in a home of its own, and what a test needs to talk to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
UP_TIMEOUT = 90.0
DOWN_TIMEOUT = 40.0

_NOT_OURS = ("FLYTE_", "TARMAC_", "UCTL_", "FLYTECTL_", "_U_", "EAGER_", "_UNION_", "RUN_NAME", "ACTION_NAME")


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def both(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@dataclass(frozen=True, slots=True)
class User:
    """Another user of this machine, and an interpreter of the tests' version that this user may run."""

    number: int
    python: str


class Platform:
    """One running platform, or the place where one may be started."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None, user: User | None = None) -> None:
        """`user`: who runs the commands, where that is another than who runs the tests."""
        self._user = user
        self.home = folder / "tarmac"
        self.work = folder / "work"
        """The working directory of every command; empty at first."""
        self.user = folder / "user"
        """The HOME of every command."""
        for made in (self.work, self.user):
            made.mkdir(parents=True)
        if user is not None:
            for made in (folder, self.work, self.user):
                os.chown(made, user.number, user.number)
        self.settings = settings or {}

    @property
    def env(self) -> dict[str, str]:
        """The environment for any program that shall use this platform."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
        path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
        if self._user is not None and self._user.python != sys.executable:
            path += os.pathsep + sysconfig.get_path("purelib")
        cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))  # packages are fetched once for all
        own = {"TARMAC_HOME": str(self.home), "HOME": str(self.user), "PYTHONPATH": path, "UV_CACHE_DIR": cache}
        return {**kept, **own, **{f"TARMAC_{name.upper()}": value for name, value in self.settings.items()}}

    @property
    def remote_env(self) -> dict[str, str]:
        """The environment of another machine's client: it knows an address and a key, and no folder of ours."""
        kept = {name: value for name, value in self.env.items() if not name.startswith("TARMAC_")}
        return {**kept, "FLYTE_ENDPOINT": self.endpoint, "FLYTE_API_KEY": self.token}

    @property
    def state(self) -> dict[str, Any]:
        import json

        state: dict[str, Any] = json.loads((self.home / "platform.json").read_text())
        return state

    @property
    def endpoint(self) -> str:
        endpoint: str = self.state["endpoint"]
        return endpoint

    @property
    def token(self) -> str:
        return (self.home / "token").read_text().strip()

    def cli(self, *words: str | Path, stdin: str = "", timeout: float = 60, **env: str) -> Finished:
        """Run `flyte …` to its end, as a script would: nothing is a terminal."""
        return self.python("-m", "flyte.cli", *words, stdin=stdin, timeout=timeout, **env)

    def python(self, *words: str | Path, stdin: str = "", timeout: float = 60, **env: str) -> Finished:
        """Run `python …` to its end on this platform."""
        command = [self._user.python if self._user else sys.executable, *map(str, words)]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.work,
            env={**self.env, **env},
            user=None if self._user is None else self._user.number,
            group=None if self._user is None else self._user.number,
            extra_groups=None if self._user is None else [],
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def write(self, name: str, text: str) -> Path:
        """A program of the user, in the working directory."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def client(self, **options: Any) -> httpx.Client:
        """An HTTP client for the platform's API, with the owner's key."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.endpoint, headers=headers, timeout=30, trust_env=False, **options)

    def async_client(self, **options: Any) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=self.endpoint, headers=headers, timeout=30, trust_env=False, **options)

    def app_url(self, name: str) -> str:
        with self.client() as http:
            answer = http.get(f"/v1/apps/{name}")
            answer.raise_for_status()
            url: str = answer.json()["url"]
        return url

    def up(self, *flags: str) -> None:
        done = self.cli("up", "--port", "0", *flags, timeout=UP_TIMEOUT)
        if done.code:
            raise AssertionError(f"`flyte up` failed: {done.both}\n{self.log_tails()}")

    def down(self) -> None:
        """Stop the platform and see that nothing of it is left."""
        done = self.cli("down", timeout=DOWN_TIMEOUT)
        assert done.code == 0, f"`flyte down` failed: {done.both}\n{self.log_tails()}"
        self.wait_until_gone()

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this platform, found in the process table and not by asking it."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        home = str(self.home)
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                return False
            environment = process.environ()
            marked = home in (environment.get("TARMAC_HOME"), environment.get("TARMAC_PLATFORM"))
            return marked or any(home in word for word in process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            return False

    def wait_until_gone(self, timeout: float = 30) -> None:
        wait_for(lambda: not self.processes(), f"no process of {self.home} is left", timeout, self.describe)

    def commands(self) -> dict[int, str]:
        """The command line of each process of this platform; a process may end, or be a zombie, while it is read."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found[process.pid] = " ".join(process.cmdline())
        return found

    def describe(self) -> str:
        return "\n".join(f"{pid} {command[:200]}" for pid, command in self.commands().items())

    def log_tails(self, lines: int = 15) -> str:
        """The last lines of each part's log, for the message of a failed test."""
        parts = sorted((self.home / "logs" / "platform").glob("*.log"))
        tails = [
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) for path in parts
        ]
        return "\n".join(tails) or "(the platform wrote no logs)"

    def kill_all(self) -> None:
        """The last resort at the end of a test: only processes of this platform's own home."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def wait_for(
    fact: Callable[[], Any], promise: str, timeout: float = 30, describe: Callable[[], str] | None = None
) -> Any:
    """What `fact` returns, as soon as that is true. Fails with `promise` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not (found := fact()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {promise}\n{describe() if describe else ''}")
        time.sleep(0.02)
    return found


@contextmanager
def place(settings: dict[str, str] | None = None, user: User | None = None) -> Iterator[Platform]:
    """A place for a platform that is not started; whatever is left in it at the end is stopped and removed."""
    folder = Path(tempfile.mkdtemp(prefix="tarmac-test-"))
    platform = Platform(folder, settings, user)
    try:
        yield platform
    finally:
        platform.kill_all()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(settings: dict[str, str] | None = None) -> Iterator[Platform]:
    """A platform that runs, and that is asked to go and seen to be gone at the end."""
    with place(settings) as platform:
        platform.up()
        yield platform
        if platform.processes():
            platform.down()

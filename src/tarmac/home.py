"""The platform's folder, with all of its files and sockets: `$TARMAC_HOME`, default `~/.tarmac`.

Only the owner can enter it. Paths of unix sockets must stay under 100 characters, so a folder with a long path has its
sockets in another folder with a short path, below the system's folder for temporary files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyte.atomic import create_file, replace_file
from flyte.errors import InitializationError
from flyte.wire import AppId, AttemptRef

_KEY_LENGTH = 32
"""Bytes of the master key."""

_LONGEST_SOCKET_NAME = 24

_FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True)
class Home:
    path: Path

    @property
    def token_file(self) -> Path:
        """The owner's token; made by `prepare`, mode 0600."""
        return self.path / "token"

    @property
    def state_file(self) -> Path:
        """The running platform's endpoint, pid, version and start time, for clients."""
        return self.path / "platform.json"

    @property
    def database(self) -> Path:
        return self.path / "tarmac.db"

    @property
    def blobs(self) -> Path:
        """Large values and code bundles, by sha256."""
        return self.path / "blobs"

    @property
    def code(self) -> Path:
        """Unpacked bundles, one folder for each digest."""
        return self.path / "code"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def gateway(self) -> Path:
        """haproxy.cfg, its maps and its keys."""
        return self.path / "gateway"

    @property
    def sockets(self) -> Path:
        """The folder of unix sockets; its path is short enough for every system."""
        wanted = self.path / "run"
        if len(str(wanted)) + _LONGEST_SOCKET_NAME < 100:
            return wanted
        digest = hashlib.sha256(str(self.path).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"tarmac-{os.getuid()}-{digest}"

    @property
    def api_socket(self) -> Path:
        """HTTP: the control plane's API and console, for the gateway."""
        return self.sockets / "api.sock"

    @property
    def link_socket(self) -> Path:
        """The links of workers, replicas, the agent and the gateway controller.

        It is alone in its folder, which is the only one with sockets that units see.
        """
        return self.sockets / "link" / "link.sock"

    @property
    def wake_socket(self) -> Path:
        """HAProxy's Lua connects here for each held request."""
        return self.sockets / "wake.sock"

    @property
    def haproxy_socket(self) -> Path:
        """HAProxy's runtime API."""
        return self.sockets / "haproxy.sock"

    @property
    def haproxy_master_socket(self) -> Path:
        return self.sockets / "master.sock"

    @property
    def access_log_socket(self) -> Path:
        return self.sockets / "log.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.sockets / "supervisor.sock"

    @property
    def heartbeat_socket(self) -> Path:
        """The parts send their heartbeats here."""
        return self.sockets / "heartbeat.sock"

    @property
    def master_key_file(self) -> Path:
        """The key that seals secrets and signs identities; mode 0600."""
        return self.path / "master.key"

    @property
    def ended_sessions(self) -> Path:
        """The browsers' sessions that were ended before they expired."""
        return self.path / "ended-sessions.json"

    def action_log(self, ref: AttemptRef) -> Path:
        return self.run_logs(ref.run) / f"{ref.action}.{ref.attempt}.log"

    def run_logs(self, run: str) -> Path:
        """The logs of those actions of the run that wrote anything."""
        return self.logs / "runs" / run

    def worker_log(self, unit: str) -> Path:
        """The output of a worker, until its action is over (`flyte.runtime.output`)."""
        return self.worker_logs / f"{unit}.log"

    @property
    def in_flight(self) -> Path:
        """What the workers have in flight (`flyte.runtime.in_flight`)."""
        return self.path / "holdings"

    @property
    def files(self) -> Path:
        """Files that actions and programs of this machine pass to others (`flyte.io`)."""
        return self.path / "files"

    @property
    def work(self) -> Path:
        """Files that units write into their working directories: a folder for each unit, until it ends."""
        return self.path / "work"

    @property
    def isolation(self) -> Path:
        """The isolation of units on this machine, as JSON: the profile, and why it is not a better one."""
        return self.path / "isolation.json"

    def isolation_profile(self) -> dict[str, str]:
        """The agent's last finding: `profile`, and as `reason` why it is not a better one. Empty before the first."""
        try:
            told: dict[str, str] = json.loads(self.isolation.read_text())
        except (OSError, ValueError):
            return {"profile": "", "reason": ""}
        return told

    @property
    def aside(self) -> Path:
        """The items that the platform has left out (`tarmac.aside`)."""
        return self.path / "aside"

    @property
    def stopping(self) -> Path:
        """Exists from the moment when `flyte down` stops the platform until the next control plane has noticed it."""
        return self.path / "stopping"

    @property
    def clock(self) -> Path:
        """Changes of the machine's clock while runs were under way (`tarmac.control.clock`)."""
        return self.path / "clock"

    @property
    def images(self) -> Path:
        """The environments that images have become (`tarmac.environments.place`)."""
        return self.path / "images"

    def image_log(self, name: str) -> Path:
        """What was run to make an environment, and what it said; `name` is a request or a key."""
        return self.logs / "images" / f"{name}.log"

    @property
    def worker_logs(self) -> Path:
        return self.logs / "workers"

    def checkpoints(self, run: str) -> Path:
        """What the run's actions saved for their next attempts (`flyte._checkpoint`)."""
        return self.files / "checkpoints" / run

    def checkpoints_but(self, runs: Collection[str]) -> list[Path]:
        """Those of every run except these."""
        return [folder for folder in self.checkpoints("x").parent.glob("*") if folder.name not in runs]

    def replica_log(self, app: AppId, unit: str) -> Path:
        return self._app_logs(app) / f"{unit}.log"

    def access_log(self, app: AppId) -> Path:
        return self._app_logs(app) / "access.jsonl"

    def _app_logs(self, app: AppId) -> Path:
        """A database may hold names older than the rules for names: what cannot name a folder is hashed."""
        name = ".".join(app)
        whole = name if _FOLDER_NAME.fullmatch(name) else "~" + hashlib.sha256(name.encode()).hexdigest()
        return self.logs / "apps" / whole

    def part_log(self, part: str) -> Path:
        """The output of one of the platform's own processes."""
        return self.logs / "platform" / f"{part}.log"

    def prepare(self) -> None:
        """Make the folders, the owner's token and the master key, each readable by the owner alone.

        Raises PermissionError for a folder of another user, InitializationError for keys that cannot be used.
        """
        logs = (self.logs, self.worker_logs, self.logs / "platform")
        for folder in (self.path, self.blobs, self.code, self.files, self.work, self.images, *logs, self.gateway):
            folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        _check_owner(self.path, self.path.stat())
        with contextlib.suppress(FileExistsError):
            self.sockets.mkdir(mode=stat.S_IRWXU)
        _check_owner(self.sockets, self.sockets.lstat())  # it may be in a folder where anybody can put a link
        self.link_socket.parent.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        for folder in (self.path, self.sockets):
            folder.chmod(stat.S_IRWXU)
        create_file(self.token_file, "tk_" + secrets.token_urlsafe(32))
        create_file(self.master_key_file, secrets.token_hex(_KEY_LENGTH))
        self.token()
        self.master_key()

    def token(self) -> str:
        """The owner's token. Raises InitializationError if the file is empty."""
        token = self.token_file.read_text().strip()
        if not token:
            raise InitializationError(
                "BadToken", "user", f"{self.token_file} is empty; remove it, then `flyte up` makes another one"
            )
        return token

    def master_key(self) -> bytes:
        """The master key. Raises InitializationError if the file does not contain one, since a weak key is unsafe."""
        try:
            key = bytes.fromhex(self.master_key_file.read_text().strip())
        except ValueError:
            key = b""
        if len(key) != _KEY_LENGTH:
            raise InitializationError(
                "BadMasterKey",
                "user",
                f"{self.master_key_file} does not hold a key of {_KEY_LENGTH} bytes in hexadecimal; put your copy of "
                "it back. Without one: `flyte down`, remove it, `flyte up`, and set every secret again",
            )
        return key

    def state(self) -> dict[str, Any] | None:
        """The content of the state file; None if it cannot be read."""
        try:
            state = json.loads(self.state_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return state if isinstance(state, dict) else None

    def write_state(self, **state: Any) -> None:
        replace_file(self.state_file, json.dumps(state))


def find() -> Home:
    """The home that the environment names, or the default one."""
    named = os.environ.get("TARMAC_HOME")
    return Home(Path(named).expanduser().absolute() if named else Path.home() / ".tarmac")


def _check_owner(folder: Path, found: os.stat_result) -> None:
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{folder} does not belong to you; remove it, or set TARMAC_HOME to another place")

"""What keeps the units of this machine apart, and the folders in which they work.

Which profile it is, and what each means, is said in `flyte.runtime.isolation`. `tidy` is tried once when the agent
starts, in a process of its own; where the machine does not let us, it is `links`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flyte import wire
from flyte.atomic import replace_file
from tarmac.home import Home

log = logging.getLogger("tarmac.agent")

PROBE = "flyte.runtime.isolation"
"""The program that tries it."""

PROBE_LIMIT = 20.0
"""Seconds."""

KEPT = ("code", "blobs", "files", "logs", "work", "holdings")
"""What units need of the platform's folder. Logs as a whole: a log is renamed from one of its folders to another."""

HIDDEN = ("logs/platform",)
"""What they do not need of that: what the platform itself writes down."""

_OVERLAY = ("work/incompat/volatile", "work/incompat", "work", "index", "")
"""What the kernel makes in the folder `work` of an overlay; in the first of them is a file, `dirty`."""

_MADE = (*(f"{name}.work/{made}" for name in ("code", "tmp") for made in _OVERLAY), "code", "tmp", "")
"""The folders of a unit that wrote nothing."""

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Profile:
    """`name`: `tidy`, `links` or `open`. `reason`: what it lacks, and why; empty where it is whole."""

    name: str
    reason: str = ""


class Ground:
    """`wanted`: the setting. `env`: the environment of the process that tries it."""

    def __init__(self, home: Home, wanted: str, env: Mapping[str, str]) -> None:
        self._home = home
        self._wanted = wanted
        self._env = env
        self._profile: asyncio.Future[Profile] = asyncio.get_running_loop().create_future()
        self._left: set[str] = set()
        """Folders that nobody works in any more."""
        self._news = asyncio.Event()

    async def look(self) -> None:
        """At first, find out what can be had. After that, wait for what units leave, and remove it."""
        if not self._profile.done():
            await self._choose()
        await self._news.wait()
        self._news.clear()
        left, self._left = self._left, set()
        await asyncio.to_thread(remove, [self._home.work / name for name in left])

    async def _choose(self) -> None:
        await asyncio.to_thread(self._begin)
        profile = Profile("open") if self._wanted == "open" else await asyncio.to_thread(self._tried)
        self._tell(profile)
        self._profile.set_result(profile)

    def _tell(self, profile: Profile) -> None:
        try:
            replace_file(self._home.isolation, json.dumps({"profile": profile.name, "reason": profile.reason}))
        except OSError as error:  # a full disk: `flyte status` says what it said before
            log.warning("the profile %s could not be written down: %s", profile.name, error)

    def _begin(self) -> None:
        """What an earlier agent's units left is removed; what units need is there."""
        remove(self._home.work.iterdir() if self._home.work.is_dir() else ())
        for folder in (self._home.work, self._home.files, self._home.link_socket.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home.in_flight.touch(mode=0o600)

    def _tried(self) -> Profile:
        place = self._home.work / f"probe-{secrets.token_hex(4)}"
        place.mkdir(mode=0o700)
        command = (sys.executable, "-P", "-m", PROBE, str(place))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_LIMIT, env=self._env, cwd="/")
        except (OSError, subprocess.TimeoutExpired) as error:
            return Profile("links", str(error))
        finally:
            remove([place])
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["the trial failed"])[-1]
            log.warning("actions share what they write beside their code, for this machine has no mounts: %s", reason)
            return Profile("links", reason)
        return Profile("tidy", "" if done.stdout.strip() == "kept" else "this kernel does not keep signals in")

    async def isolation(self, pool: wire.PoolSpec) -> wire.Isolation | None:
        """What a fork server of `pool` is told; None where nothing isolates its units."""
        profile = await asyncio.shield(self._profile)
        if profile.name == "open":
            return None
        home = self._home
        return wire.Isolation(
            "tidy" if profile.name == "tidy" else "links",
            home=str(home.path),
            kept=[*KEPT, *(["images"] if pool.image else [])],
            link=str(home.link_socket.parent),
            work=str(home.work),
            hidden=list(HIDDEN),
            own=str(home.work / f"z-{pool.id}-{secrets.token_hex(4)}"),
        )

    async def protect(self, code: Path) -> None:
        """Nobody may write into the unpacked code where only permissions see to that; elsewhere its units must."""
        profile = await asyncio.shield(self._profile)
        await asyncio.to_thread(_permit, code, profile.name != "links")

    def left(self, name: str) -> None:
        """Nobody works in the folder of this name any more, if there is one."""
        if os.path.lexists(self._home.work / name):
            self._left.add(name)
            self._news.set()

    async def again(self, name: str) -> None:
        """A unit of this name has ended, and another is to be started."""
        await asyncio.to_thread(remove, [self._home.work / name])

    def end(self) -> None:
        """Nobody works here any more."""
        with contextlib.suppress(OSError):
            remove(self._home.work.iterdir())


def remove(folders: Iterable[Path]) -> None:
    """Remove them, whatever units made of their permissions. What cannot be removed is logged, and stays."""
    for folder in folders:
        if _was_untouched(folder):
            continue
        try:
            _remove(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("%s cannot be removed: %s", folder, error)


def _was_untouched(folder: Path) -> bool:
    """Remove a folder in which nobody has written: a few calls, for each of many a second."""
    for name in _MADE:
        try:
            if name.endswith("volatile"):
                os.unlink(f"{folder}/{name}/dirty")
            os.rmdir(f"{folder}/{name}")
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except PermissionError:
        folder.chmod(0o700)
        for path, names, _ in os.walk(folder):
            for name in names:
                if not os.path.islink(f"{path}/{name}"):
                    os.chmod(f"{path}/{name}", 0o700)
        shutil.rmtree(folder)


def _permit(code: Path, writing: bool) -> None:
    if bool(code.stat().st_mode & stat.S_IWUSR) is writing:
        return
    for path, _, files in os.walk(code, topdown=False):
        for each in (*(f"{path}/{name}" for name in files), path):
            mode = stat.S_IMODE(os.stat(each).st_mode)
            os.chmod(each, mode | stat.S_IWUSR if writing else mode & ~_WRITE)

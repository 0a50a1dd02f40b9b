"""Environments that are made while what makes them is killed: none that is used may be half-made.

Each has a package of many files, so that its installation lasts; afterwards every environment that counts as whole is
asked for all files that its packages list.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.faults.world import World
from tests.tarmac.wheelhouse import Wheelhouse

FILES = 3000
"""In each package."""

LONGEST = 60.0
"""Seconds after which an environment that is not made counts as a violation; its makers were killed once."""

LAST_BLOW = 1.5
"""Seconds after the request within which a maker is killed."""

_LOOK = """
import importlib.metadata as metadata, cow, flyte.runtime.worker
missing = [str(file) for one in metadata.distributions() for file in one.files or () if not file.locate().exists()]
assert not missing, missing[:3]
assert cow.WHOLE == "whole"
"""


@dataclass(slots=True)
class Images:
    world: World
    hurt: Callable[[int], None]
    """Told of each process before it is killed."""
    violations: list[str] = field(default_factory=list)
    count: int = 0

    def strike(self, chance: random.Random) -> bool:
        """Have an environment made, kill one of its makers at a random moment, and see that it becomes whole."""
        self.count += 1
        body = self._order(self.count)
        with ThreadPoolExecutor(1) as asking:
            first = asking.submit(self.world.call, "POST", "/v1/images", body, LONGEST)
            time.sleep(chance.random() * LAST_BLOW)
            hit = self._kill(chance)
            first.result()
        self._wait_until_made(body)
        self.look_at_all()
        return hit

    def _order(self, number: int) -> dict[str, Any]:
        """The request for an environment that is not there."""
        house = Wheelhouse(self.world.platform.work / "house")
        many = {f"cow_parts/part{at}.py": f"NUMBER = {at}\n" for at in range(FILES)}
        house.wheel("cow", f"{number}.0", source="WHOLE = 'whole'\n", files=many)
        options = [*house.options, "--link-mode", "copy"]
        image = {"packages": [f"cow=={number}.0"], "options": options, "install_flyte": False}
        return {"environments": [{"name": f"cow{number}", "kind": "task", "image": image}]}

    def _kill(self, chance: random.Random) -> bool:
        makers = list(self._makers())
        if not makers:
            return False
        victim = chance.choice(makers)
        self.hurt(victim.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        return True

    def _makers(self) -> Iterator[psutil.Process]:
        """The agent, its builders, and uv."""
        with contextlib.suppress(psutil.NoSuchProcess, KeyError):
            agent = psutil.Process(self.world.pids()["agent"])
            builders = [child for child in agent.children() if _is_builder(child)]
            if builders:
                yield agent
            for builder in builders:
                yield from (builder, *builder.children(recursive=True))

    def _wait_until_made(self, body: dict[str, Any]) -> None:
        """What failed with its maker is asked for again, as a user would."""
        end = time.monotonic() + LONGEST
        while (found := self.world.call("POST", "/v1/images", body, LONGEST)[0])["state"] != "ready":
            if time.monotonic() > end:
                self.violations.append(f"an environment was not made in {LONGEST:g} s: {found}"[:600])
                return
            time.sleep(0.1)

    def look_at_all(self) -> None:
        for environment in sorted((self.world.platform.home / "images" / "envs").iterdir()):
            if (environment / ".whole").exists() and "cow" in (environment / "lock.txt").read_text():
                self._look_at(environment)

    def _look_at(self, environment: Path) -> None:
        command = [str(environment / "bin" / "python"), "-P", "-c", _LOOK]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
        if done.returncode != 0:
            self.violations.append(f"the environment {environment.name} is half-made: {done.stderr[-400:]}")


def _is_builder(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "tarmac.environments.build" in process.cmdline()
    return False

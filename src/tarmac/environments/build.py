"""The program that makes environments: one order on its standard input, news on its standard output, and it ends.

It is a process of its own, so that it can be killed at any moment: an environment is made in a folder of its own and
renamed when it is whole, and what a killed builder leaves is removed by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from flyte.wire import ImageRequest
from tarmac import process
from tarmac.environments import interpreters, overlay
from tarmac.environments.interpreters import Choice
from tarmac.environments.place import FORMAT, Asked, Known, Place, Whole
from tarmac.environments.resolve import Resolver
from tarmac.environments.uv import Uv, UvFailed, apart_from_secrets, in_uvs_words, sources

CHECK = "import flyte.runtime.worker"
"""What has to be possible in an environment: some releases of what the user may pin crash when they are imported."""

CHECK_LIMIT = 60.0
"""Seconds."""

NICE = 10
"""What runs already goes first."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """`request` is what an image asks for; without one the environment `key` is made again."""

    folder: str
    timeout: float
    log: str
    request: ImageRequest | None = None
    key: str = ""
    secrets: dict[str, str] = {}
    """Variables that requirements and indexes may name."""
    parent: int
    """The process that ordered it, without which it ends."""
    force: bool = False


class News(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of what the builder says: first what it does, at last `key` or `error`."""

    message: str = ""
    key: str = ""
    is_new: bool = False
    """Whether the environment was made now."""
    error: str = ""
    is_passing: bool = False
    """The error may be gone another time: a network, or a disk that is full."""


class Builder:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._place = Place(Path(order.folder))
        self._begun = time.monotonic()
        self.log: list[str] = []
        self._place.prepare()
        self._uv = Uv(self._place.path, order.secrets, self._begun + order.timeout, self.log)

    def carry_out(self) -> News:
        """Have the environment whole. Raises UvFailed and OSError."""
        self._sweep()
        request = self._order.request
        if request is None:
            key = self._order.key
        else:
            with self._place.turn(request.id):
                key = self._asked(request)
        with self._place.turn(key):
            is_new = self._place.whole(key) is None
            if is_new:
                self._make(key)
        return News(key=key, is_new=is_new)

    def _asked(self, request: ImageRequest) -> str:
        """What the request comes to: as before, unless its interpreter is gone, a better one came, or it is forced."""
        choice = self._choice(request)
        before = self._place.asked(request.id)
        known = self._place.known(before.key) if before is not None else None
        is_same = known is not None and known.interpreter == choice.interpreter
        if before is not None and is_same and not self._order.force:
            return before.key
        return self._resolve(request, choice)

    def _choice(self, request: ImageRequest) -> Choice:
        found = interpreters.find(self._place.interpreters)
        return interpreters.choose(found, request.python, request.requires_python)

    def _resolve(self, request: ImageRequest, choice: Choice) -> str:
        interpreter = choice.interpreter
        tell(f"resolving for Python {interpreter}")
        making = self._place.making(request.id)
        making.mkdir()
        try:
            resolver = Resolver(self._uv, request, interpreter, making, self._place.wheels)
            lock = resolver.lock()
        except UvFailed as error:
            if choice.note and not error.is_network:
                error.args = (f"{error}\n({choice.note})",)
            raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
        key = digest(FORMAT, interpreter.path, interpreter.version, interpreter.platform, lock)
        options = sources(in_uvs_words(request.options))
        self._place.write_known(key, Known(lock=lock, interpreter=interpreter, options=options))
        notes = [*filter(None, [choice.note]), *resolver.notes]
        self._place.write_asked(request.id, Asked(key=key, notes=notes))
        return key

    def _make(self, key: str) -> None:
        """The environment of that lock, in a folder of its own that gets its name when it is whole."""
        known = self._place.known(key)
        if known is None or not Path(known.interpreter.path).exists():
            gone = "its lock is" if known is None else f"its interpreter {known.interpreter.path} is"
            raise UvFailed(
                f"the environment {key} cannot be made again: {gone} not on this machine any more; deploy again"
            )
        making, begun = self._place.making(key), time.monotonic()
        try:
            self._install(making, known)
            overlay.put(making, self._place.ours)
            self._check(making)
            size = sum(file.lstat().st_size for file in making.rglob("*") if file.is_file() and not file.is_symlink())
            whole = Whole(bytes=size, seconds=time.monotonic() - begun)
            (making / ".whole").write_bytes(msgspec.json.encode(whole))
            shutil.rmtree(self._place.environment(key), ignore_errors=True)  # one that is not whole
            making.rename(self._place.environment(key))
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _install(self, making: Path, known: Known) -> None:
        count = known.lock.count("==") + known.lock.count(" @ ")
        tell(f"installing {count} package{'s' * (count != 1)} for Python {known.interpreter}")
        self._uv.run(
            "venv", "--quiet", "--relocatable", "--no-project", "--python", known.interpreter.path, str(making)
        )
        lock = making / "lock.txt"
        lock.write_text(known.lock)
        options, lines = apart_from_secrets(known.options, self._order.secrets)
        indexes = making / "indexes.txt"
        indexes.write_text("\n".join([*lines, ""]))
        install = (
            *("pip", "sync", "--quiet", "--allow-empty-requirements", "--python", str(making / "bin" / "python")),
            *("--find-links", str(self._place.wheels), *options, str(indexes), str(lock)),
        )
        try:
            self._uv.run(*install, "--offline")  # where all is there; without it, uv asks the index even then
        except UvFailed:
            self._uv.run(*install)

    def _check(self, making: Path) -> None:
        command = [str(making / "bin" / "python"), "-P", "-c", CHECK]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_LIMIT, env=env, cwd="/")
        except subprocess.TimeoutExpired:
            raise UvFailed(f"a worker's modules are not imported there within {CHECK_LIMIT:g} s") from None
        if done.returncode != 0:
            raise UvFailed(f"a worker's modules cannot be imported there (exit code {done.returncode}):\n{done.stderr}")

    def _sweep(self) -> None:
        """Remove what killed builders left; what one makes now is locked."""
        for left in (self._place.path / "making").iterdir():
            with contextlib.suppress(BlockingIOError), self._place.turn(left.name.partition(".")[0], wait=False):
                shutil.rmtree(left, ignore_errors=True)


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def tell(message: str) -> None:
    _say(News(message=message))


def _say(news: News) -> None:
    print(msgspec.json.encode(news).decode(), flush=True)


def carried_out(order: Order) -> News:
    """Carry out the order; the last news of it."""
    builder = Builder(order)
    try:
        return builder.carry_out()
    except UvFailed as error:
        return News(error=str(error), is_passing=error.is_passing)
    except OSError as error:
        return News(error=str(error), is_passing=True)
    finally:
        log = Path(order.log)
        with contextlib.suppress(OSError):  # the build is worth more than its log
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("\n".join(builder.log))


def main() -> None:
    """`python -P -m tarmac.environments.build`, with an Order as JSON on its standard input."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    process.die_with(order.parent)
    os.nice(NICE)
    _say(carried_out(order))


if __name__ == "__main__":
    main()

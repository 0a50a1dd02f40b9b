"""Where environments lie, and what is known of each.

images/asked/<request>.json   what an image came to: the environment's key, and notes
images/known/<key>.json       what an environment is made of: its lock and its interpreter
images/envs/<key>/            the environment; it is whole if `.whole` is in it
images/making/<key>.<pid>/    one that is being made; it is renamed when it is whole
images/turns/<name>           one builder for each request and each key; the kernel gives the lock back
images/ours/<digest>/flyte    our package, for all environments; a .pth file in each leads there
images/wheels/                what workers need, made of what is installed here
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from flyte.atomic import replace_file
from tarmac.environments.interpreters import Interpreter

T = TypeVar("T")

FORMAT = 1
"""Part of every key: what an environment of another format holds is not what is expected now."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What an environment is made of, with which it can be made again."""

    lock: str
    """Exact versions with their hashes, as uv writes them."""
    interpreter: Interpreter
    options: list[str] = msgspec.field(default_factory=list)
    """uv's options for where packages come from."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a request came to."""

    key: str
    notes: list[str] = msgspec.field(default_factory=list)


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """What `.whole` says of an environment."""

    bytes: int
    seconds: float
    """How long it took to install."""


@dataclass(frozen=True, slots=True)
class Place:
    """`path` is the folder of all environments."""

    path: Path

    def prepare(self) -> None:
        for name in ("asked", "known", "envs", "making", "turns", "ours", "wheels"):
            (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def interpreters(self) -> Path:
        return self.path / "interpreters.json"

    @property
    def wheels(self) -> Path:
        return self.path / "wheels"

    @property
    def ours(self) -> Path:
        return self.path / "ours"

    def environment(self, key: str) -> Path:
        return self.path / "envs" / key

    def python(self, key: str) -> Path:
        return self.environment(key) / "bin" / "python"

    def making(self, key: str) -> Path:
        return self.path / "making" / f"{key}.{os.getpid()}"

    def asked(self, request: str) -> Asked | None:
        return _read(self.path / "asked" / f"{request}.json", Asked)

    def known(self, key: str) -> Known | None:
        return _read(self.path / "known" / f"{key}.json", Known)

    def whole(self, key: str) -> Whole | None:
        """None where the environment is not there, not whole, or its interpreter is gone."""
        if not self.python(key).exists():
            return None
        return _read(self.environment(key) / ".whole", Whole)

    def write_asked(self, request: str, asked: Asked) -> None:
        _write(self.path / "asked" / f"{request}.json", asked)

    def write_known(self, key: str, known: Known) -> None:
        _write(self.path / "known" / f"{key}.json", known)

    @contextlib.contextmanager
    def turn(self, name: str, wait: bool = True) -> Iterator[None]:
        """Hold the lock of that name. Raises BlockingIOError if `wait` is False and somebody else has it."""
        with open(self.path / "turns" / name, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield


def _read(path: Path, kind: type[T]) -> T | None:
    """What the file says; None where there is none, or one that an earlier version of ours wrote otherwise."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, record: msgspec.Struct) -> None:
    replace_file(path, json.dumps(msgspec.to_builtins(record)))

"""Names that the platform gives: sortable for runs, derived for child actions."""

from __future__ import annotations

import hashlib
import re
import secrets

from flyte.errors import InvalidInputError

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]


def base36(number: int, length: int) -> str:
    """`number` in base 36, cut or filled to `length` digits."""
    pairs = []
    for _ in range((length + 1) // 2):
        number, rest = divmod(number, 1296)
        pairs.append(_PAIRS[rest])
    return "".join(reversed(pairs))[-length:]


def run_name(now: float) -> str:
    """`r` and 19 characters: eight of the time in milliseconds, so that names sort by age, and eleven of chance."""
    return "r" + base36(int(now * 1000), 8) + base36(secrets.randbits(60), 11)


LONGEST_NAME = 100
LONGEST_KEY = 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def check_name(what: str, name: str) -> None:
    """Raise InvalidInputError unless `name` may be a run's name, a version or the like."""
    if len(name) > LONGEST_NAME or not _NAME.match(name):
        raise InvalidInputError(
            f"{name[:LONGEST_NAME]!r} is no {what}; use up to {LONGEST_NAME} letters, digits, '.', '_' and '-', "
            "with a letter or digit first"
        )


def check_key(key: str) -> None:
    """Raise InvalidInputError unless `key` may be an idempotency key."""
    if not key or len(key) > LONGEST_KEY or not key.isprintable():
        raise InvalidInputError(
            f"an Idempotency-Key has 1 to {LONGEST_KEY} printable characters; this one has {len(key)}"
        )


def deployment_name(now: float) -> str:
    return "d" + base36(int(now * 1000), 8) + base36(secrets.randbits(60), 11)


def child_name(
    parent: str, task: str, inputs: bytes | None, inputs_blob: str | None, sequence: int, group: str | None
) -> str:
    """The name of a child action: the same call of a parent that runs again has the same name."""
    parts = "\0".join((parent, task, group or "", str(sequence), inputs_blob or "", ""))
    return _derived(parts.encode() + (inputs or b""))


def step_name(parent: str, step: str) -> str:
    """The name of a recorded step. `step` is made of the call alone: other actions make the same one."""
    return _derived(f"{parent}\0{step}".encode())


def _derived(text: bytes) -> str:
    return base36(int.from_bytes(hashlib.sha256(text).digest()[:17], "big"), 25)

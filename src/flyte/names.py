"""Names that are made here, in local mode as on a platform: sortable for runs, derived for child actions.

And how any name stands in an address, also one that a database has had since before there were rules for names.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from urllib.parse import quote

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
    """`r` and 19 characters: ten of the time in microseconds, so that names sort by age, and nine of chance."""
    return "r" + _moment(now) + base36(secrets.randbits(60), 9)


def deployment_name(now: float) -> str:
    return "d" + _moment(now) + base36(secrets.randbits(60), 9)


def _moment(now: float) -> str:
    """Eight digits of the milliseconds, which last for 89 years, and two of the microseconds in the last of them."""
    milliseconds, microseconds = divmod(int(now * 1_000_000), 1_000)
    return base36(milliseconds, 8) + base36(microseconds, 2)


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


def child_names(
    parent: str,
    failures: int,
    task: str,
    inputs: bytes | None,
    inputs_blob: str | None,
    sequence: int,
    group: str | None,
) -> Iterator[str]:
    """The names that a call may have when its parent failed `failures` times by its own fault, first to last.

    The first is that of a child which an earlier attempt started. Where that child failed, the call is made anew under
    the next name, which this attempt, and every repetition of it after a crash, derives in the same way.
    """
    for generation in range(failures + 1):
        caller = parent if generation == 0 else f"{parent}~{generation}"
        yield child_name(caller, task, inputs, inputs_blob, sequence, group)


_PLAIN = re.compile(r"(?!\.{0,2}\Z)[^~/\\\x00-\x1f\x7f\ud800-\udfff][^/\\\x00-\x1f\x7f\ud800-\udfff]*")
_WRITTEN = re.compile(r"~((?:[0-9a-f]{2})*)")


def path_part(name: str) -> str:
    """The name as one part of an address's path.

    A name that no path can hold (`..`, one with a slash, the empty one) is written as `~` and its UTF-8 in hex.
    """
    return quote(name, safe="") if _PLAIN.fullmatch(name) else f"~{name.encode(errors='surrogatepass').hex()}"


def name_in_path(part: str) -> str:
    """The name that a part of a path stands for, once that is unquoted: what `path_part` was given."""
    found = _WRITTEN.fullmatch(part)
    try:
        return part if found is None else bytes.fromhex(found[1]).decode()
    except UnicodeDecodeError:
        return part

"""The ports that the gateway can use: those on which no other program listens."""

from __future__ import annotations

import resource
from collections.abc import Iterable

from tarmac.hosts import is_free

_OWN_FILES = 300
"""Descriptors that HAProxy needs for itself: logs, Lua, the runtime API."""

_MOST = 12_800
_FEWEST = 100
_UNLIMITED = 10_240
"""What macOS grants at most where it says `unlimited`."""


def usable(host: str, ports: Iterable[int], ours: frozenset[int] = frozenset()) -> tuple[int, ...]:
    """The ports among `ports` that are free, or that HAProxy has already (`ours`)."""
    return tuple(port for port in ports if port in ours or is_free(host, port))


def connections(listeners: int, wanted: int = 0) -> int:
    """How many connections HAProxy may have at once; two files for each.

    `wanted`, or else 12,800, as far as this process's limit on open files allows.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _UNLIMITED if hard == resource.RLIM_INFINITY else hard
    return max(_FEWEST, min(wanted or _MOST, (files - listeners - _OWN_FILES) // 2))

"""The port of the front door: which program has it, and the choice of a free one."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

from flyte.errors import InitializationError
from tarmac.hosts import family, is_free

_FRONT_DOORS = range(12_000, 32_000, 600)
"""The ports from which `--port 0` chooses, below those that the system gives to connections.

They are far apart because the apps' ports are in between.
"""


@contextlib.contextmanager
def free_front_door(host: str) -> Iterator[int]:
    """A port for the front door, with room for the apps' ports above it, that no other `up` chooses within the block.

    During the block the last port of that room is bound, which other `up` commands notice: seconds pass between the
    choice and the moment at which the platform listens. Raises InitializationError if there is no free port.
    """
    for port in random.sample(_FRONT_DOORS, len(_FRONT_DOORS)):
        with _bound(host, port + _FRONT_DOORS.step - 1) as claim:
            if claim and is_free(host, port) and is_free(host, port + 20):
                yield port
                return
    raise InitializationError("NoFreePort", "user", f"no free port was found on {host}; name one: flyte up --port N")


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[bool]:
    """Bind the port for the duration of the block; yields whether that was possible."""
    with socket.socket(family(host)) as sock:
        try:
            sock.bind((host, port))
        except OSError:
            is_ours = False
        else:
            is_ours = True
        yield is_ours


def in_use(host: str, port: int) -> str:
    holder = _listener(port)
    by = f" by {holder}" if holder else ""
    with free_front_door(host) as other:
        return f"port {port} is in use{by}; start the platform on another one: flyte up --port {other}"


def _listener(port: int) -> str:
    """The program that listens on `port`, for the message; empty if this user may not know it."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections(kind="tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                words = " ".join(psutil.Process(one.pid).cmdline())
                return f"process {one.pid} ({words[:80]})"
    return ""

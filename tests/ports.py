"""Ports that one test has for itself, however many processes run tests at the same time.

They are below those that `flyte up --port 0` chooses from and those that the system gives to connections. Who takes
some binds the port behind them for as long, and that is how the others see that they are taken.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tarmac.gateway.ports import usable

HOST = "127.0.0.1"
_BLOCKS = range(10_000, 11_000, 25)
_PAIRS = range(11_000, 12_000, 2)


@contextmanager
def block() -> Iterator[range]:
    """24 ports in a row that nobody listens on."""
    for first in random.sample(_BLOCKS, len(_BLOCKS)):
        ports = range(first, first + _BLOCKS.step - 1)
        with _bound(ports.stop) as is_claimed:
            if is_claimed and usable(HOST, ports) == tuple(ports):
                yield ports
                return
    raise AssertionError(f"none of the {len(_BLOCKS)} blocks of ports is free")


@contextmanager
def one() -> Iterator[int]:
    """A port that nobody listens on and that no closed connection lingers on: it can be bound without SO_REUSEADDR."""
    for port in random.sample(_PAIRS, len(_PAIRS)):
        with _bound(port + 1) as is_claimed:
            if is_claimed and _is_quiet(port):
                yield port
                return
    raise AssertionError(f"none of the {len(_PAIRS)} single ports is free")


def _is_quiet(port: int) -> bool:
    with _bound(port) as is_so:
        return is_so


@contextmanager
def _bound(port: int) -> Iterator[bool]:
    """Whether this process has the port for the time of the block."""
    with socket.socket() as sock:
        try:
            sock.bind((HOST, port))
        except OSError:
            is_ours = False
        else:
            is_ours = True
        yield is_ours

"""Two programs that both say 8080 can both run: binding the declared port binds the port that the unit really has.

Used by `apphost` in its own process and, through `sitecustomize` beside it, in every Python program that an app
executes. It stands alone, imports nothing of ours, and is read by whatever Python 3 the program runs on.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

LOOPBACK = ("", "0.0.0.0", "127.0.0.1", "localhost", "::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0")


def install(declared: int, real: int) -> None:
    """From now on a bind to `declared` (or to `real`) binds `real` on the loopback interface.

    A connection to `declared` on this machine goes to `real` too, once this process has bound it: some servers look
    whether they answer. An app is reached through the gateway and nowhere else, so no other interface is bound.
    """
    original_bind = socket.socket.bind
    original_connect = socket.socket.connect
    original_connect_ex = socket.socket.connect_ex
    bound: list[int] = []  # the address family of each socket

    def bind(self: socket.socket, address: Any) -> None:
        if not _is_tcp(self) or address[1] not in (declared, real):
            original_bind(self, address)
            return
        if self.family == socket.AF_INET6:
            self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            original_bind(self, (_loopback(self), real, *address[2:]))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if not bound:
                raise OSError(error.errno, f"port {real} (for the declared {declared}) is in use") from error
            # the server's second socket, for the other kind of address: 127.0.0.1 is served by its first one already
            original_bind(self, (_loopback(self), 0, *address[2:]))
        bound.append(self.family)

    def connect(self: socket.socket, address: Any) -> None:
        original_connect(self, own(self, address))

    def connect_ex(self: socket.socket, address: Any) -> int:
        return original_connect_ex(self, own(self, address))

    def own(sock: socket.socket, address: Any) -> Any:
        if bound and _is_tcp(sock) and address[1] == declared and address[0] in LOOPBACK:
            return (_loopback(sock), real, *address[2:])
        return address

    for function in (bind, connect, connect_ex):
        setattr(socket.socket, function.__name__, function)


def _is_tcp(sock: socket.socket) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type & 0xF == socket.SOCK_STREAM


def _loopback(sock: socket.socket) -> str:
    """The address where the gateway looks, as the socket's family writes it."""
    return "127.0.0.1" if sock.family == socket.AF_INET else "::ffff:127.0.0.1"

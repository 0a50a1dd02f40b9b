"""Two programs that both say 8080 can both run: binding the declared port binds the port that the unit really has.

Used by `apphost` in its own process and, through `sitecustomize` beside it, in every Python program that an app
executes. It stands alone, imports nothing of ours, and is read by whatever Python 3 the program runs on.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

LOOPBACK = ("", "0.0.0.0", "127.0.0.1", "localhost", "::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0")


def install(declared: int, real: int) -> None:
    """From now on a bind to `declared` (or to `real`) binds `real` on the loopback interface.

    A connection to `declared` on this machine goes to `real` too, once this process has bound it: some servers look
    whether they answer. An app is reached through the gateway and nowhere else, so no other interface is bound.

    Many servers bind several addresses: 0.0.0.0 and ::, 127.0.0.1 and ::1, whatever `localhost` is. The first socket
    gets 127.0.0.1, where the gateway looks; the others get the same port of another loopback address. Were it the same
    address, `bind` or `listen` would fail; were it another port, a server that compares them would. And each says that
    it has the port that was asked for, since some servers compare that, too.
    """
    original_bind = socket.socket.bind
    original_connect = socket.socket.connect
    original_connect_ex = socket.socket.connect_ex
    original_getsockname = socket.socket.getsockname
    bound = Bound(real, original_getsockname)

    def bind(self: socket.socket, address: Any) -> None:
        if not _is_tcp(self) or address[1] not in (declared, real):
            original_bind(self, address)
            return
        others = bound.others(self, address)
        for place in _places(self, real, address, len(others)):
            try:
                place.take(self, original_bind)
                break
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                    raise
                failed = error
        else:
            raise OSError(failed.errno, f"port {real} (for the declared {declared}) is in use") from failed
        bound.add(self, address)

    def getsockname(self: socket.socket) -> Any:
        address = original_getsockname(self)
        if bound.any and _is_tcp(self) and address[1] == real:
            return (address[0], bound.asked.get(self.fileno(), real), *address[2:])
        return address

    def connect(self: socket.socket, address: Any) -> None:
        original_connect(self, own(self, address))

    def connect_ex(self: socket.socket, address: Any) -> int:
        return original_connect_ex(self, own(self, address))

    def own(sock: socket.socket, address: Any) -> Any:
        if bound.any and _is_tcp(sock) and address[1] == declared and address[0] in LOOPBACK:
            return (_mapped(sock, "127.0.0.1"), real, *address[2:])
        return address

    for function in (bind, connect, connect_ex, getsockname):
        setattr(socket.socket, function.__name__, function)


class Bound:
    """The sockets of this process that are bound in place of the declared port.

    They are remembered by their descriptors: uvloop takes those over, and leaves Python's objects as if closed.
    """

    def __init__(self, real: int, name_of: Callable[[socket.socket], Any]) -> None:
        self.any = False
        self._name_of = name_of
        self.asked: dict[int, int] = {}
        """Descriptor → the port that was asked for."""
        self._real = real
        self._sockets: list[tuple[int, Any]] = []

    def add(self, sock: socket.socket, address: Any) -> None:
        self.any = True
        self.asked[sock.fileno()] = address[1]
        self._sockets.append((sock.fileno(), (sock.family, address[0])))

    def others(self, sock: socket.socket, address: Any) -> list[Any]:
        """The addresses that are bound besides this one.

        The very same address cannot be had twice, which some programs try out; sockets that share it (SO_REUSEPORT)
        are one.
        """
        self._sockets = [(file, where) for file, where in self._sockets if self._is_bound(file)]
        return [where for _, where in self._sockets if where != (sock.family, address[0])]

    def _is_bound(self, file: int) -> bool:
        try:
            with socket.socket(fileno=os.dup(file)) as sock:
                return bool(self._name_of(sock)[1] == self._real)
        except (OSError, IndexError):  # closed, or something else by now
            return False


class Place:
    """Where a socket may be bound."""

    def __init__(self, address: Any, v6only: bool) -> None:
        self._address = address
        self._v6only = v6only

    def take(self, sock: socket.socket, bind: Callable[[socket.socket, Any], None]) -> None:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, self._v6only)
        bind(sock, self._address)


def _places(sock: socket.socket, real: int, address: Any, others: int) -> Iterator[Place]:
    """Where to bind a socket for which `others` are bound already, the best first."""
    rest = address[2:]
    yield Place((_mapped(sock, f"127.0.0.{others + 1}"), real, *rest), v6only=False)
    if others:  # 127.0.0.1 is served; not every system has more addresses like it
        if sock.family == socket.AF_INET6:
            yield Place(("::1", real, *rest), v6only=True)
        yield Place((_mapped(sock, "127.0.0.1"), 0, *rest), v6only=False)


def _is_tcp(sock: socket.socket) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type & 0xF == socket.SOCK_STREAM


def _mapped(sock: socket.socket, address: str) -> str:
    """The IPv4 address, as the socket's family writes it."""
    return address if sock.family == socket.AF_INET else f"::ffff:{address}"

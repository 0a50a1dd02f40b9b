"""A worker's end of its link to the control plane: one unix socket, one reader thread.

The thread answers pings while user code computes, so a worker that is merely busy is never taken for a lost one. What
must not get lost (`keep`) is kept until it is answered; when the control plane goes away, the thread connects again,
says what the worker holds, and sends what is kept once more. The control plane knows every such frame by its key or by
the child it names, so that a frame which arrives twice does nothing twice.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Hashable

from flyte.wire import AnyFrame, Frame, FrameError, Hello, Ping, Pong, Refused, Unpacker, Welcome, pack

PATIENCE = 60.0
"""Seconds for which a control plane that went away is waited for; then the worker gives up."""

_PAUSE = 0.05
_LONGEST_PAUSE = 0.5

_CHUNK = 65_536
"""Bytes read at once; for much more the allocator would ask the system for new memory, and give it back, every time."""

GAVE_UP = 75
"""Exit code of a worker that nobody talks to any more (EX_TEMPFAIL)."""


class Link:
    def __init__(
        self,
        path: str,
        hello: Callable[[], Hello],
        receive: Callable[[list[AnyFrame]], None],
        patience: float = PATIENCE,
    ) -> None:
        self._path = path
        self._hello = hello
        self._receive = receive
        self._patience = patience
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._kept: dict[Hashable, bytes] = {}
        self._thread = threading.Thread(target=self._read, name="flyte-link", daemon=True)

    def start(self) -> None:
        """Connect and go on reading until the process ends."""
        self._connect()
        self._thread.start()

    def send(self, frame: Frame, keep: Hashable | None = None) -> None:
        """Send a frame; with `keep`, send it again after a lost connection, until `answered(keep)`."""
        data = pack(frame)
        with self._lock:
            if keep is not None:
                self._kept[keep] = data
            if self._socket is not None:
                try:
                    self._socket.sendall(data)
                except OSError:
                    self._drop()

    def answered(self, keep: Hashable) -> bool:
        """The frame kept under `keep` has its answer; False if it had one before."""
        return self._kept.pop(keep, None) is not None

    def _drop(self) -> None:
        """Let the reader notice that the connection is gone; it makes the next one."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it was gone already
            self._socket = None

    def _connect(self) -> None:
        """Connect, introduce this worker, send what is kept. Gives up, and ends the process, after PATIENCE."""
        deadline = time.monotonic() + self._patience
        pause = _PAUSE
        while True:
            try:
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(self._path)
                break
            except OSError:
                connection.close()
                if time.monotonic() > deadline:
                    os._exit(GAVE_UP)
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        with self._lock:
            self._reading = connection
            try:
                connection.sendall(pack(self._hello()) + b"".join(self._kept.values()))
            except OSError:
                return  # the reader will see the end of the stream and connect again
            self._socket = connection

    def _read(self) -> None:
        unpacker = Unpacker()
        while True:
            try:
                data = self._reading.recv(_CHUNK)
                frames = unpacker.feed(data) if data else []
            except (OSError, FrameError):
                data, frames = b"", []
            if not data:
                with self._lock:
                    self._socket = None
                self._reading.close()
                unpacker = Unpacker()
                self._connect()
            elif others := [frame for frame in frames if not self._answer(frame)]:
                self._receive(others)

    def _answer(self, frame: AnyFrame) -> bool:
        """Deal with what concerns the link itself."""
        match frame:
            case Ping():
                self.send(Pong(at=frame.at))
            case Refused():
                os._exit(0)
            case Welcome():
                pass  # nothing depends on which control plane it is
            case _:
                return False
        return True

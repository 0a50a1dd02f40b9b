"""A worker's end of its link to the control plane: one unix socket, and one reader at a time.

To hand a frame from one thread to another costs more than a small function takes. So the main thread reads the socket
itself while it has nothing to do (`read_here`). While it runs user code, a second thread, the *watcher*, reads in its
place: it answers pings while user code computes, so that a worker which is merely busy is never taken for a lost one,
and brings the answers to calls. It takes over when the code has run for LONG seconds or asks for something (`watch`),
and reads until the next order is there; a function that is over sooner never wakes it.

Frames that must not get lost (`keep`) are kept until they are answered; when the control plane ends, the reader
connects again, says what the worker holds, and sends what is kept once more. The control plane knows every such frame
by its key or by the child it names, so that a frame which arrives twice does nothing twice.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Hashable

from flyte.backoff import Pauses
from flyte.wire import AnyFrame, Frame, FrameError, Hello, Ping, Pong, Refused, Unpacker, Welcome, pack

LONG = 0.03
"""Seconds of user code after which the watcher reads."""

_RESTS = 1.0
"""Seconds without any order after which the watcher stops looking whether it is needed, until it is called."""

_MEANWHILE = 0.5
"""Seconds between two calls of `meanwhile`."""

_LONGEST_PAUSE = 0.5
"""Seconds between two tries to connect."""

_CHUNK = 65_536
"""Bytes read at once; for much more the allocator would ask the system for new memory, and give it back, every time."""

GAVE_UP = 75
"""Exit code of a worker whose platform is gone (EX_TEMPFAIL)."""


class Link:
    """`receive` gets the frames that arrived together, and says whether an order is among them.

    `meanwhile` is called by the watcher, now and then while nothing arrives.
    """

    def __init__(
        self,
        path: str,
        hello: Callable[[], Hello],
        receive: Callable[[list[AnyFrame]], bool],
        meanwhile: Callable[[], None],
    ) -> None:
        self._path = path
        self._hello = hello
        self._receive = receive
        self._meanwhile = meanwhile
        self._parent = os.getppid()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._reading: socket.socket
        self._unpacker = Unpacker()
        self._kept: dict[Hashable, bytes] = {}
        self._posted: list[bytes] = []
        self._baton = threading.Lock()
        """The thread that has this lock reads."""
        self._bell = threading.Lock()
        self._bell.acquire()
        self._asleep = False
        self._wanted = False
        self._busy_since: float | None = None
        self._last_busy = 0.0
        self.ending = False
        """Whether this process was told to end. What is broken off then is not over: somebody will take it up."""
        self.abandoned = False
        """Whether this is the copy in a process that was forked."""

    def start(self) -> None:
        """Connect; from now on there is somebody to read whatever the main thread does."""
        self._connect()
        threading.Thread(target=self._watch_always, name="flyte-link", daemon=True).start()

    def abandon(self) -> None:
        """In a process that was forked: the connection is the parent's. What is sent from here on goes nowhere."""
        self.abandoned = True
        self._lock = threading.Lock()  # the one thread that would open it may not be in this process
        self._socket = None
        self._reading.close()

    # ------------------------------------------------------------------ writing

    def send(self, frame: Frame, keep: Hashable | None = None) -> None:
        """Send a frame; with `keep`, send it again after a lost connection, until `answered(keep)`."""
        self.post(frame, keep)
        self.flush()

    def post(self, frame: Frame, keep: Hashable | None = None) -> None:
        """Have a frame sent with the next `flush`."""
        data = pack(frame)
        with self._lock:
            if keep is not None:
                self._kept[keep] = data
            self._posted.append(data)

    def flush(self) -> None:
        """Send what was posted."""
        with self._lock:
            data, self._posted = b"".join(self._posted), []
            if self._socket is not None and data:
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
        """Connect, introduce this worker, send what is kept.

        A control plane may be away for long, a full disk or a database that is moved keep it from starting; what runs
        here goes on all the while. The wait ends, and with it the process, when the one that started it is gone: where
        the kernel does not see to that, nobody else would.
        """
        pauses = Pauses(longest=_LONGEST_PAUSE)
        while True:
            try:
                connection = _connection(self._path)
                break
            except OSError:
                if os.getppid() != self._parent:
                    os._exit(GAVE_UP)
                pauses.sleep()
        with self._lock:
            self._reading = connection
            self._posted.clear()  # what matters of it is kept
            try:
                connection.sendall(pack(self._hello()) + b"".join(self._kept.values()))
            except OSError:
                return  # the reader will see the end of the stream and connect again
            self._socket = connection

    # ------------------------------------------------------------------ reading

    def busy(self, is_busy: bool) -> None:
        """User code begins, or is over; said by the main thread."""
        now = self._last_busy = time.monotonic()
        self._busy_since = now if is_busy else None
        if is_busy and self._asleep:
            self._ring()

    def watch(self) -> None:
        """Something was asked for: let the watcher read, from now until the next order."""
        if not self._wanted:
            self._wanted = True
            self._ring()

    def read_here(self, happened: Callable[[], bool]) -> bool:
        """Read once on this thread, unless `happened`; False where the watcher reads."""
        if not self._baton.acquire(blocking=False):
            return False
        try:
            if not happened():
                self._read_once()
        finally:
            self._baton.release()
        return True

    def _watch_always(self) -> None:
        while True:
            self._until_needed()
            if self._baton.acquire(timeout=LONG):
                try:
                    self._await_data()
                    while not self._read_once():
                        self._await_data()
                    self._wanted = False
                finally:
                    self._baton.release()

    def _await_data(self) -> None:
        poll = select.poll()
        try:
            poll.register(self._reading, select.POLLIN)
            while not poll.poll(_MEANWHILE * 1000):
                self._meanwhile()
        except (OSError, ValueError):
            return  # the connection is gone, which the read will notice

    def _until_needed(self) -> None:
        while not self._wanted:
            since, now = self._busy_since, time.monotonic()
            if since is not None and now - since >= LONG:
                return
            self._asleep = since is None and now - self._last_busy > _RESTS
            if self._asleep and self._busy_since is None and not self._wanted:
                self._bell.acquire()
            else:
                self._bell.acquire(timeout=LONG)
            self._asleep = False

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it rings already

    def _read_once(self) -> bool:
        """Wait for frames and hand them out; whether an order was among them. A lost connection is made again."""
        try:
            data = self._reading.recv(_CHUNK)
            frames = self._unpacker.feed(data) if data else []
        except (OSError, FrameError):
            data, frames = b"", []
        if not data:
            with self._lock:
                self._socket = None
            self._reading.close()
            self._unpacker = Unpacker()
            self._connect()
            return False
        others = [frame for frame in frames if not self._answer(frame)]
        return bool(others) and self._receive(others)

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


def _connection(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection

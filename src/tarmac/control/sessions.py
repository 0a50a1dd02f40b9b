"""The browsers' sessions that were signed out before their time.

A session is a signed token that the gateway checks without asking anybody, and a copy of it may be anywhere. So those
that were signed out are remembered until they would have expired, in a file, and the gateway is told of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from flyte.atomic import replace_file

log = logging.getLogger("tarmac.sessions")


class EndedSessions:
    def __init__(
        self, path: Path, changed: Callable[[list[str]], None], clock: Callable[[], float] = time.time
    ) -> None:
        """`path`: the file, which need not be there yet; `changed` is told all ids whenever there are others."""
        self._path, self._changed, self._clock = path, changed, clock
        self._expires = _read(path)
        """Session → when it would have expired."""
        self._changed(list(self._expires))

    def __contains__(self, session: object) -> bool:
        return session in self._expires

    def end(self, session: str, expires: float) -> None:
        """From now on the session is refused, by the API at once and by the gateway as soon as it has heard."""
        now = self._clock()
        self._expires = {each: end for each, end in self._expires.items() if end > now} | {session: expires}
        self._changed(list(self._expires))
        try:
            replace_file(self._path, msgspec.json.encode(self._expires).decode())
        except OSError as error:  # a full disk: it has ended, but a control plane that is restarted would not know
            log.error("the list of ended sessions cannot be written to %s: %s", self._path, error)


def _read(path: Path) -> dict[str, float]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}

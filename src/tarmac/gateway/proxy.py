"""The running HAProxy: its known state, and how it is brought to the wanted state.

`mend` compares once and applies the difference. It first asks HAProxy for its pid and its configuration. Of a process
that is new it reads the whole state; while the process is the same, the known state is updated from the commands that
were sent. When HAProxy's configuration is outdated (a setting, a certificate, a slot without a backend), the files are
written again and HAProxy is reloaded. That closes no connection: the new worker takes over the listeners, and the old
one ends with its last connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from flyte.errors import InitializationError
from tarmac.gateway import folder, runtime_api
from tarmac.gateway.config import digest
from tarmac.gateway.routes import Wanted
from tarmac.gateway.runtime_api import HAProxyAway, Info, Refused, ReloadFailed, Session
from tarmac.gateway.shape import Shape
from tarmac.gateway.steps import DeleteServer, Present, Step, slot_of, steps, without_backend
from tarmac.home import Home
from tarmac.settings import Settings

log = logging.getLogger("tarmac.gateway.proxy")

RELOAD_PAUSE = 10.0
"""Seconds before a configuration that HAProxy refused is tried again."""


class Proxy:
    def __init__(self, home: Home, settings: Settings) -> None:
        self._home, self._settings = home, settings
        self._worker: Info | None = None
        """The HAProxy process whose state is `_present`; None if its state must be read first."""
        self._present = Present()
        self._certificate = _changed(settings.tls_cert)
        self._refused: set[str] = set()
        """The commands that HAProxy refused at the last comparison."""
        self._given_up: dict[str, float] = {}
        """Stamp of a shape that HAProxy refused → when it may be tried again."""
        self.shape: Shape | None = None
        """The shape that HAProxy should have; None until a running HAProxy was seen."""
        self.trouble = ""
        """Why HAProxy does not have the wanted state, for people; empty when it has."""

    def serves(self, app: str) -> bool:
        """Whether HAProxy has a replica for the app, by its known state."""
        return self._worker is not None and self._present.is_served(app)

    @property
    def pid(self) -> int | None:
        """The pid of HAProxy's worker; None if it is not known."""
        return None if self._worker is None else self._worker.pid

    def has_servers(self, slot: int) -> bool:
        """Whether the slot has a replica, including one that still finishes open requests."""
        return self._worker is None or bool(self._present.servers.get(slot))

    def forget(self) -> None:
        """Read HAProxy's state anew at the next comparison."""
        self._worker = None

    async def mend(self, want: Wanted | None) -> None:
        """Compare once and apply the difference. Without a wanted state (None) nothing is changed.

        Raises HAProxyAway when no HAProxy answers.
        """
        try:
            async with runtime_api.session(self._home.haproxy_socket) as session:
                info = await session.info()
                if self._worker is None or info != self._worker:
                    await self._meet(session, info)
                if want is not None:
                    await self._take_steps(session, steps(want, self._present))
                    await self._delete_idle(session)
        except HAProxyAway:
            self.forget()
            raise

    async def _meet(self, session: Session, info: Info) -> None:
        """Read the state of an HAProxy process that is new, and compute the shape that it should have."""
        self._present = await session.present()
        ours = folder.bound(self._home)
        self.shape = folder.plan(self._home, self._settings, ours, self._present.servers)
        if self._worker is None or self._worker.pid != info.pid:
            log.info("HAProxy runs as process %d", info.pid)
        self._worker = info

    async def _take_steps(self, session: Session, todo: list[Step]) -> None:
        """Send the commands. After a refused one, the rest for its slot is left out and the state read anew."""
        refused: set[int | None] = set()
        told: set[str] = set()
        for step in todo:
            slot = slot_of(step)
            if slot is not None and slot in refused:
                continue
            try:
                await session.take(step)
            except (Refused, ValueError) as error:
                told.add(str(error))
                if str(error) not in self._refused:  # it is tried again twice a second
                    log.error("%s", error)
                refused.add(slot)
                self.forget()
            else:
                step.take(self._present)
        self._refused = told

    async def _delete_idle(self, session: Session) -> None:
        """Delete the closed servers whose last connection has ended."""
        for slot, name in list(self._present.closed()):
            deletion = DeleteServer(slot, name)
            try:
                if await session.delete_idle(deletion):
                    deletion.take(self._present)
            except Refused as error:
                log.error("%s", error)
                self.forget()

    # ------------------------------------------------------------------ reloading

    async def reload_if_needed(self, want: Wanted) -> bool:
        """Reload HAProxy if its shape is outdated; returns whether a reload was tried.

        Raises HAProxyAway when its master does not answer.
        """
        if self._worker is None or self.shape is None:
            return False
        self._watch_certificate()
        shape = folder.with_slots(self.shape, without_backend(want, self._present))
        stamp = digest(shape)
        if self._worker.shape == stamp or time.monotonic() < self._given_up.get(stamp, 0):
            return False
        try:
            await asyncio.to_thread(folder.write, self._home, shape, want)
            await runtime_api.reload(self._home.haproxy_master_socket)
        except HAProxyAway:
            raise
        except (ReloadFailed, OSError) as failed:  # its files cannot be written: the disk is full
            log.error("%s", failed)
            self._given_up = {stamp: time.monotonic() + RELOAD_PAUSE}
            self.trouble = str(failed)
            return True
        log.warning("HAProxy was reloaded with a new configuration")
        self.shape, self.trouble = shape, ""
        self.forget()
        return True

    def _watch_certificate(self) -> None:
        """Notice a renewed certificate, which changes the shape."""
        changed = _changed(self._settings.tls_cert)
        if changed == self._certificate or self.shape is None:
            return
        self._certificate = changed
        try:
            self.shape = folder.plan(self._home, self._settings, folder.bound(self._home), self.shape.slots)
        except InitializationError as error:
            self.trouble = f"the old certificate stays in use: {error}"
            log.error("%s", self.trouble)


def _changed(path: str) -> float | None:
    """When the file was changed last; None where there is none."""
    try:
        return Path(path).stat().st_mtime if path else None
    except OSError:
        return None

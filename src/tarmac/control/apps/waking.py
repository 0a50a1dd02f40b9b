"""Waking: an app without a replica gets one when a request comes, or when the one that served has died."""

from __future__ import annotations

import asyncio
import logging

from flyte import wire
from flyte.backoff import pause
from flyte.errors import BaseRuntimeError, DeploymentError
from flyte.wire import AppId, AppStatus
from tarmac.control.agents import GONE, Agent
from tarmac.control.apps.replicas import DidNotStart, Replicas
from tarmac.control.apps.sleep import Sleep
from tarmac.control.errands import Errands
from tarmac.control.gateway import Gateway
from tarmac.control.live_apps import LiveApp, LiveReplica
from tarmac.control.ports import Serving
from tarmac.control.suspects import ENOUGH
from tarmac.store import AppVersionRow, StoreError

log = logging.getLogger("tarmac.apps")

YOUNG = 10.0
"""Seconds; a replica that dies younger counts as one that cannot stay up."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two tries to start a replica that keeps dying."""


class Waking:
    def __init__(
        self, apps: Serving, replicas: Replicas, sleep: Sleep, agent: Agent, gateway: Gateway, errands: Errands
    ) -> None:
        self._apps = apps
        self._replicas = replicas
        self._sleep = sleep
        self._agent = agent
        self._gateway = gateway
        self._errands = errands
        self._loop = asyncio.get_running_loop()

    async def answer(self, frame: wire.Wake) -> None:
        """Wake the app, and tell those who wait for it. They may be anybody: what the app wrote is not for them."""
        app = AppId.read(frame.app)
        did_not_start = f"app {app.name!r} did not start; `flyte get logs {app.name}` shows why"
        try:
            await self.wake(self._apps.find(app))
        except DidNotStart:
            self._gateway.tell(wire.Woken(key=frame.key, ok=False, message=did_not_start))
        except BaseRuntimeError as error:
            self._gateway.tell(wire.Woken(key=frame.key, ok=False, message=error.message))
        except StoreError:
            raise
        except Exception:  # who waits is told, and every other app goes on
            log.exception("%s cannot be woken", frame.app)
            self._gateway.tell(wire.Woken(key=frame.key, ok=False, message=did_not_start))
        else:
            self._gateway.tell(wire.Woken(key=frame.key, ok=True))

    async def wake(self, app: LiveApp) -> None:
        """Return when a replica answers; all who wait share one start. Raises DeploymentError when none will."""
        if app.row.wanted != "active":
            raise DeploymentError(
                f"app {app.row.name!r} is stopped; start it: flyte update app {app.row.name} --activate"
            )
        self._sleep.recall(app)
        if not app.serving():
            await self.start(app)

    async def start(self, app: LiveApp) -> None:
        """Have as many replicas as the app wants at least, and one of them ready. Raises DeploymentError."""
        if app.waking is None or app.waking.done():
            app.waking = self._loop.create_task(self._start_wanted(app))
        await asyncio.shield(app.waking)

    async def _start_wanted(self, app: LiveApp) -> None:
        """Start what is missing; once more where that ended with the agent. Raises DeploymentError."""
        while True:
            version = self._startable(app)
            try:
                await self._start_missing(app, version)
            except BaseRuntimeError as error:
                if app.row.wanted == "active":  # else it was deactivated meanwhile, and that is what ended them
                    if GONE in error.message and not self._agent.suspects.is_given_up(app.suspect):
                        continue  # no fault of the app's, as far as is known
                    if self._agent.present:  # else it is tried again with the next agent, or the next request
                        self._apps.set_status(app, AppStatus.FAILED, self._given_up(app) or error.message)
                raise
            break
        if app.row.wanted == "active":
            self._apps.set_status(app, AppStatus.ACTIVE, "a replica is ready")

    def _startable(self, app: LiveApp) -> AppVersionRow:
        """The version to start. Raises DeploymentError where there is none, or it is given up."""
        row, version = app.row, app.served
        if row.version is None:
            raise DeploymentError(f"no version of app {row.name!r} ever became ready; deploy it again")
        if version is None:
            raise DeploymentError(f"version {row.version} of app {row.name!r} is gone; deploy it again")
        if why := self._given_up(app):
            raise DeploymentError(why)
        return version

    def _given_up(self, app: LiveApp) -> str:
        if not self._agent.suspects.is_given_up(app.suspect):
            return ""
        name = app.row.name
        return (
            f"app {name!r} is not started any more, since the agent died {ENOUGH} times in a row when it was; "
            f"deploy another version of it, or try once more: flyte update app {name} --activate"
        )

    async def _start_missing(self, app: LiveApp, version: AppVersionRow) -> None:
        """Return when one of the replicas that the app wants at least is ready."""
        await self._replicas.agent_returned()
        present = app.present()
        missing = max(1, app.min_replicas) - len(present)
        started = [await self._replicas.start(app, version) for _ in range(missing)]
        await _first([replica.ready for replica in [*present, *started]])

    # ------------------------------------------------------------------ replicas that die

    def replace(self, app: LiveApp, dead: LiveReplica) -> None:
        """A serving replica died: start another, at once the first time, later when they keep dying young."""
        app.deaths = app.deaths + 1 if self._loop.time() - dead.since < YOUNG else 0
        delay = pause(app.deaths - 1, FIRST_PAUSE, LONGEST_PAUSE)
        message = f"replica {dead.unit} died: {dead.message or 'unknown'}"
        if not app.serving():
            self._apps.set_status(app, AppStatus.SLEEPING, message + (f"; next try in {delay:g} s" if delay else ""))
        if app.pause is not None:
            app.pause.cancel()
        app.pause = self._loop.call_later(delay, self._errand_replace, app)

    def _errand_replace(self, app: LiveApp) -> None:
        app.pause = None
        if app.row.wanted == "active" and self._apps.live.get(app.id) is app:
            self._errands.run(self.quietly(app))

    async def quietly(self, app: LiveApp) -> None:
        try:
            await self.start(app)
        except BaseRuntimeError as error:
            log.warning("app %s: %s", app.id, error.message)


async def _first(ready: list[asyncio.Future[None]]) -> None:
    """Return when one of them is done; raise the last one's error when all failed."""
    pending: set[asyncio.Future[None]] = set(ready)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            if future.exception() is None:
                return
            if not pending:
                future.result()

"""How an app goes to sleep without losing a request.

    awake ── Quiet ──► dozing ── Parted ──► asleep          (replicas are ended)
               ▲          │
               └── recall ┘  a request came, or something is still open after PATIENCE

The gateway says that an app had no request for its `scaledown_after` (`gateway/activity.py`). Then its replicas leave
the routes: from that moment the gateway holds every new request, and asks to wake the app. The replicas go on for what
reached them before. Only when the gateway has seen that nothing is open to them any more, which no later request can
change, are they ended. Until then a request that comes takes them back, and has started nothing. Nothing of this is on
disk, but that the app sleeps; a control plane that is restarted in between finds the replicas alive, and they serve.
"""

from __future__ import annotations

import asyncio
import logging

from flyte import wire
from flyte.wire import AppStatus
from tarmac.control.apps.replicas import Replicas
from tarmac.control.live_apps import LiveApp
from tarmac.control.ports import Serving

log = logging.getLogger("tarmac.sleep")

PATIENCE = 30.0
"""Seconds the gateway has to see that nothing is open; an app in which something is goes on."""


class Sleep:
    def __init__(self, apps: Serving, replicas: Replicas) -> None:
        self._apps = apps
        self._replicas = replicas
        self._loop = asyncio.get_running_loop()

    def quiet(self, frame: wire.Quiet) -> None:
        """Let the app doze off, unless what the gateway saw is not so any more."""
        app = self._find(frame.app)
        if app is None or not self._may_doze(app) or sorted(r.unit for r in app.serving()) != frame.replicas:
            return
        app.dozing = app.serving()
        for replica in app.dozing:
            replica.go("draining")
        app.patience = self._loop.call_later(PATIENCE, self.recall, app)
        self._apps.route_changed(app)

    def parted(self, frame: wire.Parted) -> None:
        """Nothing is open to those that doze, and nothing can be opened: end them."""
        app = self._find(frame.app)
        if app is None or not app.dozing:
            return
        alive = [replica for replica in app.dozing if replica.unit in app.replicas]
        self.forget(app)
        reason = f"no request for {self._apps.scaledown_after(app):g} s"
        if app.row.status is AppStatus.ACTIVE:
            self._apps.set_status(app, AppStatus.SLEEPING, reason)
        self._replicas.end(alive, reason)

    def recall(self, app: LiveApp) -> None:
        """Those that doze serve again; without effect where none does."""
        dozing = [replica for replica in app.dozing if replica.unit in app.replicas]
        self.forget(app)
        for replica in dozing:
            replica.go("ready")
        if dozing:
            log.info("%s does not go to sleep after all", app.id)
            self._apps.route_changed(app)

    def forget(self, app: LiveApp) -> None:
        """Somebody else decides over those that doze."""
        app.dozing = []
        if app.patience is not None:
            app.patience.cancel()
            app.patience = None

    def _find(self, name: str) -> LiveApp | None:
        return self._apps.live.get(wire.AppId.read(name))

    def _may_doze(self, app: LiveApp) -> bool:
        starting = app.waking is not None and not app.waking.done()
        awake = app.row.wanted == "active" and app.row.status is AppStatus.ACTIVE
        return awake and not starting and not app.dozing and self._apps.scaledown_after(app) is not None

"""The gateway controller gives HAProxy the routes and keys of the control plane, and wakes apps.

No request passes through it. One loop compares HAProxy with the wanted state and applies the difference: whenever the
control plane sends a change, whenever a request is held, and twice a second. So control plane, controller and HAProxy
may be restarted in any order. The last routes and keys are kept in a file, for a controller or an HAProxy that is
restarted while the control plane is away. As long as no routes are known, HAProxy is left as it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping

from flyte.wire import (
    AnyFrame,
    Applied,
    Barrier,
    GatewayStatus,
    Hello,
    Keys,
    KeysUsed,
    Parted,
    Route,
    RouteChanged,
    RouteRemoved,
    Routes,
    Woken,
)
from tarmac import aside, process
from tarmac.gateway import activity, folder
from tarmac.gateway.access_log import AccessLog
from tarmac.gateway.activity import Activity
from tarmac.gateway.folder import Memory
from tarmac.gateway.open_requests import OpenRequest, Withdrawn
from tarmac.gateway.proxy import Proxy
from tarmac.gateway.routes import Wanted, state, wanted
from tarmac.gateway.runtime_api import HAProxyAway
from tarmac.gateway.shape import ENDED, KEYS
from tarmac.gateway.wake import HeldRequests, Outlook
from tarmac.home import Home
from tarmac.links.client import ReconnectingLink
from tarmac.settings import Settings

log = logging.getLogger("tarmac.gateway")

BEAT = 0.5
"""Seconds between two comparisons with HAProxy when nothing happens."""

RETRY = 0.1
"""Seconds between two tries to reach an HAProxy that is away."""

SAVE_PAUSE = 0.1
"""Seconds that changes may wait before they are written to the memory file."""

MEMORY_PAUSE = 2.0
"""Seconds that the control plane has to send its routes before those of the memory file are used. HAProxy serves
meanwhile."""

CALLERS_TOLD_EVERY = 1.0
"""Seconds between two reports of who called apps."""

TICK = 0.25
"""Seconds between two checks whether it is time to look for apps without requests."""


Callers = tuple[Mapping[str, str], Mapping[str, str]]
"""sha256 of each key that counts → its holder; and the sessions that were signed out."""


class Controller:
    def __init__(self, home: Home, settings: Settings, came_up: Callable[[], None]) -> None:
        self._home = home
        self._came_up: Callable[[], None] | None = came_up
        self._memory = folder.adopted(home, process.life())
        self._routes: dict[str, Route] | None = None
        """App → route; None until the control plane or the memory file has given them."""
        self._keys: dict[str, str] = {}
        self._ended: list[str] = []
        self._wanted: Wanted | None = None
        self._complaints: list[str] = []
        self._left_out: dict[str, str] = {}
        """App, or sha256 of a key → why it is not sent to HAProxy."""
        self._reported: GatewayStatus | None = None
        self._barriers: list[int] = []
        """Numbers of the control plane's barriers that are not confirmed yet."""
        self._news = asyncio.Event()
        self._unsaved = asyncio.Event()
        self._proxy = Proxy(home, settings)
        hello = Hello(kind="gateway", name="gateway", token=home.token(), pid=os.getpid())
        self._link = ReconnectingLink(home.link_socket, lambda: hello, self._linked, self._frame)
        self._held = HeldRequests(self._outlook, self._link.send, self._news.set, settings.hold_timeout)
        self._access = AccessLog(home)
        self._keys_changed = asyncio.Event()
        """Set when HAProxy has other keys than those of which the open requests were looked at."""
        self._looked_at: Callers | None = None
        self._activity = Activity()
        self._parting: dict[str, int | None] = {}
        """App that lost its last replica → the HAProxy process that must finish the app's open requests."""

    async def run(self) -> None:
        """Runs until it is cancelled."""
        servers = (
            await self._held.listen(self._home.wake_socket),
            await self._access.listen(self._home.access_log_socket),
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._link.keep())
                tasks.create_task(self._access.keep())
                tasks.create_task(self._mend_always())
                tasks.create_task(self._save_always())
                tasks.create_task(self._recall())
                tasks.create_task(self._watch_always())
                tasks.create_task(self._tell_callers_always())
                tasks.create_task(self._end_withdrawn_always())
        finally:
            for server in servers:  # closed and not awaited: HAProxy's connections stay until this process is gone
                server.close()

    # ------------------------------------------------------------------ what the control plane says

    def _linked(self) -> None:
        self._barriers.clear()  # the control plane sends those again for which it still waits
        self._reported = None
        self._report()
        self._held.link_made()
        self._news.set()

    def _frame(self, frame: AnyFrame) -> None:
        match frame:
            case Routes():
                self._know({route.app: route for route in frame.routes}, self._keys)
            case RouteChanged() if self._routes is not None:
                self._know({**self._routes, frame.route.app: frame.route}, self._keys)
            case RouteRemoved() if self._routes is not None:
                self._know({app: route for app, route in self._routes.items() if app != frame.app}, self._keys)
            case Keys():
                self._ended = frame.ended
                self._know(self._routes, frame.keys)
            case Woken():
                self._held.woken(frame)
            case Barrier():
                self._barriers.append(frame.number)
                self._news.set()
            case _:
                log.warning("the control plane sent an unexpected %s", type(frame).__name__)

    def _know(self, routes: dict[str, Route] | None, keys: dict[str, str]) -> None:
        """Replace the routes and the keys."""
        before, self._routes, self._keys = self._routes or {}, routes, keys
        if routes is None:
            return
        self._note_changes(before, routes)
        self._wanted, refused = wanted(routes.values(), keys, self._ended)
        self._left_out = {each.about: each.why for each in refused}
        self._tell_left_out()
        self._report()
        complaints = [f"left out: {error}" for error in refused] + self._without_port(self._wanted)
        for complaint in complaints:
            if complaint not in self._complaints:
                log.warning("%s", complaint)
        self._complaints = complaints
        self._news.set()
        self._unsaved.set()

    def _note_changes(self, before: dict[str, Route], now: dict[str, Route]) -> None:
        """Note which apps have changed: they are not quiet, and may have lost their last replica."""
        for app in before.keys() | now.keys():
            had = before[app].replicas if app in before else []
            has = now[app].replicas if app in now else []
            if app not in now:
                self._parting.pop(app, None)
            if had == has:
                continue
            self._activity.touch(app)
            self._held.ask_again(app)
            self._parting.pop(app, None)
            if app in now and not has:
                self._parting[app] = self._proxy.pid

    def _without_port(self, want: Wanted) -> list[str]:
        if self._proxy.shape is None:
            return []
        missing = sorted(want.ports.difference(self._proxy.shape.app_ports))
        return [
            f"port {port} is outside of the range or in use; {want.slots[str(port)].partition('|')[0]} "
            "is served by host name only"
            for port in missing
        ]

    def _report(self) -> None:
        """Send the gateway's problems to the control plane, if they have changed."""
        shape = self._proxy.shape
        if shape is None:
            return
        status = GatewayStatus(
            unusable_ports=list(shape.unusable), message=self._proxy.trouble, left_out=self._left_out
        )
        if status != self._reported and self._link.send(status):
            self._reported = status

    def _tell_left_out(self) -> None:
        found = [
            aside.LeftOut(
                f"a route of app {about}", why, f"Deploy it again, or: flyte delete app {about.rpartition('/')[2]}"
            )
            if "/" in about
            else aside.LeftOut("an API key", why, "List the keys with `flyte get api-key`, and delete it by its ID")
            for about, why in self._left_out.items()
        ]
        try:
            aside.write(self._home, "gateway", found)
        except OSError as error:
            log.warning("the list of ignored routes cannot be written: %s", error)

    # ------------------------------------------------------------------ what is remembered

    async def _recall(self) -> None:
        """Use the routes of the memory file if the control plane stays away."""
        await asyncio.sleep(MEMORY_PAUSE)
        if self._routes is None:
            self._ended = self._memory.ended
            self._know({route.app: route for route in self._memory.routes}, self._memory.keys)

    async def _save_always(self) -> None:
        while True:
            await self._unsaved.wait()
            await asyncio.sleep(SAVE_PAUSE)
            self._unsaved.clear()
            memory = Memory(self._memory.life, list((self._routes or {}).values()), self._keys, self._ended)
            if memory == self._memory:
                continue
            try:
                await asyncio.to_thread(folder.remember, self._home, memory)
                self._memory = memory
            except (OSError, ValueError) as error:
                log.error("the routes cannot be written into %s: %s", self._home.gateway, error)

    # ------------------------------------------------------------------ what HAProxy is made to do

    def _outlook(self, app: str) -> Outlook:
        """The state of an app, as it decides on held requests."""
        if self._routes is None:
            return "unsure"
        route = self._routes.get(app)
        if route is None:
            return "gone"
        match state(route):
            case "ready":
                return "served" if self._proxy.serves(app) else "unsure"
            case other:
                return other

    async def _mend_always(self) -> None:
        away = ""
        while True:
            self._news.clear()
            pause = BEAT
            try:
                want, barriers = self._wanted, list(self._barriers)
                await self._proxy.mend(want)
                if want is self._wanted:
                    self._tell_parted()
                if want is not None and self._came_up is not None:
                    self._came_up()
                    self._came_up = None
                for app in self._held.waiting():
                    self._activity.touch(app)
                self._held.settle()
                if self._wanted is not None and await self._proxy.reload_if_needed(self._wanted):
                    self._news.set()
                elif want is not None:
                    self._tell_applied(barriers)
                    self._note_keys(want)
                self._report()
                away = ""
            except HAProxyAway as error:
                pause = RETRY
                if not away:
                    log.warning("HAProxy is away: %s", error)
                away = str(error)
            except Exception as error:  # HAProxy goes on serving, and the next comparison reads all of its state
                if repr(error) != away:
                    log.exception("HAProxy's state could not be compared with the wanted routes")
                away = repr(error)
                self._proxy.forget()
            await _first_of(self._news, pause)

    # ------------------------------------------------------------------ going to sleep

    def _tell_applied(self, barriers: list[int]) -> None:
        """Confirm barriers: HAProxy has the state that was wanted when they were received."""
        for number in barriers:
            if number in self._barriers:
                self._barriers.remove(number)
            self._link.send(Applied(number=number))

    def _tell_parted(self) -> None:
        """Name the apps without open requests to the control plane, now that HAProxy has the current routes.

        The requests of another HAProxy process are not known. For these apps nothing is sent, and the control plane
        returns their replicas to the routes.
        """
        routes, here = self._routes or {}, self._proxy.pid
        self._parting = {app: pid for app, pid in self._parting.items() if pid is not None and pid == here}
        for app in list(self._parting):
            if not self._proxy.has_servers(routes[app].port) and self._link.send(Parted(app=app)):
                del self._parting[app]

    async def _tell_callers_always(self) -> None:
        """Tell the control plane who calls apps, for its list of keys."""
        while True:
            await asyncio.sleep(CALLERS_TOLD_EVERY)
            if callers := self._access.callers():
                self._link.send(KeysUsed(callers=sorted(callers)))

    # ------------------------------------------------------------------ revoked keys

    def _note_keys(self, want: Wanted) -> None:
        """HAProxy has these keys now: have the open requests looked at if they are others than before."""
        if self._looked_at != (want.maps[KEYS], want.maps[ENDED]):
            self._looked_at = (want.maps[KEYS], want.maps[ENDED])
            self._keys_changed.set()

    def _counts(self, request: OpenRequest) -> bool:
        """Whether the key that let the request in, and its session, count at this moment."""
        assert self._wanted is not None, "HAProxy has keys"
        return request.key in self._wanted.maps[KEYS] and request.session not in self._wanted.maps[ENDED]

    async def _end_withdrawn_always(self) -> None:
        """End open requests and WebSockets whose key was revoked, or whose session was signed out."""
        runtime, master = self._home.haproxy_socket, self._home.haproxy_master_socket
        while True:
            await self._keys_changed.wait()
            self._keys_changed.clear()
            try:
                if count := await Withdrawn(runtime, master, self._counts).end():
                    log.info("%d open requests of keys that were revoked, or of sessions that ended, are closed", count)
            except HAProxyAway:
                await asyncio.sleep(RETRY)
                self._keys_changed.set()
            except Exception:  # a surprise in HAProxy's answers ends nothing else, and the next change tries again
                log.exception("the open requests of revoked keys cannot be read")

    async def _watch_always(self) -> None:
        """Tell the control plane which apps have no requests."""
        while True:
            await asyncio.sleep(TICK)
            if self._routes is None or not self._activity.is_due(self._routes.values()):
                continue
            try:
                found = await activity.look(self._home.haproxy_socket, self._home.haproxy_master_socket)
            except HAProxyAway:
                self._activity.forget()
                continue
            except Exception:  # the only consequence is that apps stay awake a little longer
                log.exception("HAProxy's counters cannot be read")
                self._activity.forget()
                await asyncio.sleep(activity.LONGEST)
                continue
            for quiet in self._activity.see(found, self._routes.values()):
                self._link.send(quiet)


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or for this many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


async def run(home: Home, settings: Settings, came_up: Callable[[], None] = lambda: None) -> None:
    """Run the gateway controller of `home` until cancelled. Calls `came_up` once HAProxy has every route."""
    await Controller(home, settings, came_up).run()

"""The control plane's view of the gateway: what it is told of the apps, and what it says of their requests.

HAProxy goes on with the routes it has while nobody is connected here. A gateway that (re)connects is told everything
anew; but a control plane that has just started does not know which replicas are alive until the agent has said so, and
until then it tells of no route at all, so that the gateway keeps those it has.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from flyte import wire
from tarmac.links.server import Link

log = logging.getLogger("tarmac.control.gateway")

GATEWAY_PATIENCE = 5.0
"""Seconds a deployment waits to hear that HAProxy has its routes."""


class Gateway:
    def __init__(self, routes: Callable[[], list[wire.Route]], epoch: int) -> None:
        """`routes`: all there are now. `epoch`: this control plane's."""
        self._epoch = epoch
        self._routes = routes
        self._link: Link | None = None
        self._loop = asyncio.get_running_loop()
        self._keys: dict[str, str] = {}
        self._ended: list[str] = []
        self._numbers = itertools.count(1)
        self._barriers: dict[int, asyncio.Future[None]] = {}
        """What the gateway has yet to say that it has applied."""
        self._routes_known = False
        self.unusable_ports: set[int] = set()
        self.left_out: dict[str, str] = {}
        """`project/domain/app`, or the sha256 of a key → why HAProxy is not told of it."""
        self.on_wake: Callable[[wire.Wake], None] = lambda frame: None
        self.on_quiet: Callable[[wire.Quiet], None] = lambda frame: None
        self.on_parted: Callable[[wire.Parted], None] = lambda frame: None
        self.on_keys_used: Callable[[wire.KeysUsed], None] = lambda frame: None

    def connected(self, link: Link) -> Gateway:
        self._link = link
        link.send(wire.Welcome(epoch=self._epoch))
        link.send(self._callers())
        self._tell_routes()
        for number in self._barriers:
            self.tell(wire.Barrier(number=number))
        return self

    def frame(self, frame: wire.AnyFrame) -> None:
        match frame:
            case wire.Wake():
                self.on_wake(frame)
            case wire.Quiet():
                self.on_quiet(frame)
            case wire.Parted():
                self.on_parted(frame)
            case wire.KeysUsed():
                self.on_keys_used(frame)
            case wire.Applied():
                if (applied := self._barriers.pop(frame.number, None)) is not None and not applied.done():
                    applied.set_result(None)
            case wire.GatewayStatus():
                self.unusable_ports = set(frame.unusable_ports)
                self.left_out = frame.left_out
                if frame.message:
                    log.warning("%s", frame.message)
            case _:
                log.warning("the gateway sent a %s", type(frame).__name__)

    def unfit(self, frame: wire.AnyFrame, problem: str) -> None:
        """What it says is not heard; the log has it."""

    def lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            log.warning("the gateway is gone")

    def tell(self, frame: wire.Frame) -> None:
        if self._link is not None:
            self._link.send(frame)

    def routes_known(self) -> None:
        """The agent has said which replicas are alive."""
        self._routes_known = True
        self._tell_routes()

    def _tell_routes(self) -> None:
        if self._routes_known:
            self.tell(wire.Routes(routes=self._routes()))

    def route_changed(self, route: wire.Route) -> None:
        if self._routes_known:
            self.tell(wire.RouteChanged(route=route))

    def keys_changed(self, keys: dict[str, str]) -> None:
        """sha256 of every key that may call apps → who it is."""
        self._keys = keys
        self.tell(self._callers())

    def sessions_ended(self, ended: list[str]) -> None:
        """The browsers' sessions that were signed out before their time."""
        self._ended = ended
        self.tell(self._callers())

    def _callers(self) -> wire.Keys:
        return wire.Keys(keys=self._keys, ended=self._ended)

    async def told(self) -> None:
        """Return when HAProxy has every route as it is now; at once without a gateway, and after GATEWAY_PATIENCE."""
        if self._link is not None:
            await self.confirmed()

    async def confirmed(self) -> bool:
        """Whether HAProxy has, within GATEWAY_PATIENCE, all routes and keys as they are now.

        A gateway that is away is waited for: HAProxy serves without it, with what it had.
        """
        number = next(self._numbers)
        applied = self._barriers[number] = self._loop.create_future()
        self.tell(wire.Barrier(number=number))
        await asyncio.wait([applied], timeout=GATEWAY_PATIENCE)
        self._barriers.pop(number, None)
        return applied.done()

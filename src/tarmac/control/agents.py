"""The control plane's view of the agent: which units it keeps alive for us, and the orders it gets.

The agent is the parent of every unit, so a unit that it does not name when it (re)connects is gone. Orders that are
given while it is away are not kept: the units' owners hear of the agent's return and ask again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from flyte import wire
from tarmac.control.suspects import Suspects
from tarmac.links.server import Link

log = logging.getLogger("tarmac.agents")


GONE = "the agent that kept it was restarted"
"""Why a unit has ended that an agent does not name when it connects."""


class Owner(Protocol):
    """Who wanted a unit and hears how it fares."""

    def unit_started(self, unit: str, pid: int) -> None: ...
    def unit_ready(self, unit: str, address: str) -> None: ...
    def unit_waits(self, unit: str, message: str) -> None: ...
    def unit_exited(self, unit: str, exit: wire.UnitExited) -> None: ...


class Agent:
    def __init__(self) -> None:
        self._link: Link | None = None
        self._owners: dict[str, Owner] = {}
        self.on_return: list[Callable[[Sequence[wire.UnitState]], None]] = []
        """Called with the units that are alive whenever the agent (re)connects."""
        self.on_stranger_exited: Callable[[str], None] = lambda unit: None
        """Called with the name of a unit that has ended and that nobody here knows."""
        self.suspects = Suspects()
        self._back = asyncio.Event()
        self.on_pool_failed: Callable[[wire.PoolFailed], None] = lambda frame: None
        self.on_pool_ready: Callable[[wire.PoolReady], None] = lambda frame: None
        self.on_pool_checked: Callable[[wire.PoolChecked], None] = lambda frame: None
        self.on_image: Callable[[wire.ImageProgress | wire.ImageReady | wire.ImageFailed], None] = lambda frame: None
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the link is gone: what was asked is not answered any more."""

    @property
    def present(self) -> bool:
        return self._link is not None and self._link.open

    def ask(self) -> None:
        """Have `has_answered` say whether all that the agent knows by now has been heard."""
        if self._link is not None and self._link.open:
            self._link.ping()

    @property
    def has_answered(self) -> bool:
        return self.present and self._link is not None and self._link.asked is None

    def connected(self, link: Link, hello: wire.Hello) -> Agent:
        """A new agent, or the old one again: what it does not name is gone."""
        if self._link is not None:
            self._link.close()
        self._link = link
        alive = {state.unit for state in hello.units}
        for unit in [unit for unit in self._owners if unit not in alive]:
            try:
                self._exited(wire.UnitExited(unit=unit, reason=GONE))
            except Exception:  # the owners of the other units are to hear of theirs
                log.exception("%s is gone with the agent", unit)
        for callback in self.on_return:
            try:
                callback(hello.units)
            except Exception:  # tasks and apps do not hear of it by each other's leave
                log.exception("the agent's return")
        self._back.set()
        return self

    async def returned(self, seconds: float) -> bool:
        """Wait until the agent is there and has said which units are alive; False when that takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._back.wait()
        return self.present

    def start(self, order: wire.StartUnit, owner: Owner) -> bool:
        """Ask for a unit; False when the agent is away, and then nobody will hear of it."""
        if not self.present:
            return False
        self._owners[order.unit] = owner
        self._send(order)
        return True

    def adopt(self, unit: str, owner: Owner) -> None:
        """A unit that was started for an earlier control plane has an owner again."""
        self._owners[unit] = owner

    def stop(self, unit: str, grace: float, reason: str = "") -> None:
        self._send(wire.StopUnit(unit=unit, grace=grace, reason=reason))

    def keep_pools(self, pools: list[str]) -> None:
        self._send(wire.KeepPools(pools=pools))

    def check_pool(self, pool: str, age: float) -> bool:
        """Ask whether what the pool has imported is still what is on disk; False when the agent is away."""
        if self.present:
            self._send(wire.CheckPool(pool=pool, age=age))
        return self.present

    def prepare_image(self, order: wire.PrepareImage) -> None:
        """Ask for an environment; an agent that is away has to be asked again when it returns."""
        self._send(order)

    def remove_images(self, keys: list[str]) -> None:
        self._send(wire.RemoveImages(keys=keys))

    def _send(self, frame: wire.Frame) -> None:
        if self._link is not None:
            self._link.send(frame)

    def frame(self, frame: wire.AnyFrame) -> None:
        try:
            self._hear(frame)
        except Exception:  # what concerns one unit or pool: the link is that of all of them
            log.exception("the agent's %s cannot be handled", type(frame).__name__)

    def _hear(self, frame: wire.AnyFrame) -> None:
        match frame:
            case wire.UnitStarted():
                if owner := self._owners.get(frame.unit):
                    owner.unit_started(frame.unit, frame.pid)
            case wire.UnitReady():
                if owner := self._owners.get(frame.unit):
                    owner.unit_ready(frame.unit, frame.address)
            case wire.UnitWaits():
                if owner := self._owners.get(frame.unit):
                    owner.unit_waits(frame.unit, frame.message)
            case wire.UnitExited():
                self._exited(frame)
            case wire.PoolFailed():
                self.on_pool_failed(frame)
            case wire.PoolReady():
                self.on_pool_ready(frame)
            case wire.PoolChecked():
                self.on_pool_checked(frame)
            case wire.ImageProgress() | wire.ImageReady() | wire.ImageFailed():
                self.on_image(frame)
            case _:
                log.warning("the agent sent a %s", type(frame).__name__)

    def _exited(self, frame: wire.UnitExited) -> None:
        owner = self._owners.pop(frame.unit, None)
        if owner is not None:
            owner.unit_exited(frame.unit, frame)
        else:
            self.on_stranger_exited(frame.unit)

    def unfit(self, frame: wire.AnyFrame, problem: str) -> None:
        """The unit that it speaks of is not heard of; one that ended so is looked for when the agent returns."""
        if isinstance(frame, wire.UnitExited):
            self._exited(wire.UnitExited(unit=frame.unit, code=frame.code, signal=frame.signal, oom=frame.oom))

    def lost(self, link: Link) -> None:
        if link is self._link:
            self._back.clear()
            log.warning("the agent is gone")
            self.on_lost()

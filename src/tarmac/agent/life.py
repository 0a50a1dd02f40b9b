"""Zygotes and units that give no heartbeat are killed: their units are lost, and what ran in them is tried again."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping

from tarmac import heartbeat
from tarmac.agent.nursery import Nursery
from tarmac.agent.standstill import Standstill
from tarmac.agent.unit import Unit

log = logging.getLogger("tarmac.agent")


class Lives:
    """`lease`: seconds without a heartbeat. `units`: a live view of those that there are."""

    def __init__(self, lease: float, nursery: Nursery, units: Mapping[str, Unit]) -> None:
        self._lease = lease
        self._nursery = nursery
        self._units = units
        self._loop = asyncio.get_running_loop()
        self._watch = heartbeat.Watch(lease, self._loop.time())
        self._standstill = Standstill(lease, self._loop.time())

    async def look(self) -> None:
        await asyncio.sleep(heartbeat.pause(self._lease))
        self._end_silent(self._loop.time())
        self._end_stopped(self._loop.time())

    def _end_silent(self, now: float) -> None:
        """Kill the zygotes that hang: their units are lost, and tried again."""
        zygotes = self._nursery.loaded()
        for pid, zygote in zygotes.items():
            if zygote.spoke:
                self._watch.hear(pid, now)
                zygote.spoke = False
        for pid in self._watch.silent(now, zygotes):
            log.warning("%s: no answer for %g s: killed", zygotes[pid].pool.name, self._lease)
            zygotes.pop(pid).kill()
        for zygote in zygotes.values():
            zygote.ping()

    def _end_stopped(self, now: float) -> None:
        """Kill what gives no heartbeat by itself, and was stopped: zygotes that import, and units."""
        zygotes = self._nursery.importing()
        units = {unit.pid: unit for unit in self._units.values() if unit.pid}
        for pid in self._standstill.found({*zygotes, *units}, now):
            verdict = f"it was stopped for {self._lease:g} s"
            unit, importing = units.get(pid), zygotes.get(pid)
            log.warning("%s: %s: killed", unit.name if unit else f"the zygote {pid}", verdict)
            if unit is not None and unit.zygote is not None:
                unit.verdict = verdict
                unit.zygote.signal(unit, signal.SIGKILL)
            elif importing is not None:
                importing.kill()

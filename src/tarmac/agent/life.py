"""The agent's watch over fork servers and units: those that do not answer are killed, and their actions tried again."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping

from tarmac import heartbeat
from tarmac.agent.pools import Pools
from tarmac.agent.standstill import Standstill
from tarmac.agent.unit import Unit

log = logging.getLogger("tarmac.agent")


class Lives:
    """`lease`: seconds without a heartbeat. `units`: a live view of those that there are."""

    def __init__(self, lease: float, pools: Pools, units: Mapping[str, Unit]) -> None:
        self._lease = lease
        self._pools = pools
        self._units = units
        self._loop = asyncio.get_running_loop()
        self._watch = heartbeat.Watch(lease, self._loop.time())
        self._standstill = Standstill(lease, self._loop.time())

    async def look(self) -> None:
        await asyncio.sleep(heartbeat.pause(self._lease))
        self._end_silent(self._loop.time())
        self._end_stopped(self._loop.time())

    def _end_silent(self, now: float) -> None:
        """Kill the fork servers that hang: their units are lost, and tried again."""
        fork_servers = self._pools.loaded()
        for pid, fork_server in fork_servers.items():
            if fork_server.spoke:
                self._watch.hear(pid, now)
                fork_server.spoke = False
        for pid in self._watch.silent(now, fork_servers):
            log.warning("%s: no answer for %g s: killed", fork_servers[pid].pool.name, self._lease)
            fork_servers.pop(pid).kill()
        for fork_server in fork_servers.values():
            fork_server.ping()

    def _end_stopped(self, now: float) -> None:
        """Kill what gives no heartbeat by itself, and was stopped: fork servers that import, and units."""
        fork_servers = self._pools.importing()
        units = {unit.pid: unit for unit in self._units.values() if unit.pid}
        for pid in self._standstill.found({*fork_servers, *units}, now):
            verdict = f"it was stopped for {self._lease:g} s"
            unit, importing = units.get(pid), fork_servers.get(pid)
            log.warning("%s: %s: killed", unit.name if unit else f"the fork server {pid}", verdict)
            if unit is not None and unit.fork_server is not None:
                unit.verdict = verdict
                unit.fork_server.signal(unit, signal.SIGKILL)
            elif importing is not None:
                importing.kill()

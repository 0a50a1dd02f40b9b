"""The readiness of a replica: it is probed until it answers; if it does not, this finds out why."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from flyte import wire
from tarmac import process
from tarmac.agent import probe
from tarmac.agent.unit import Unit


async def until_ready(unit: Unit, replica: wire.ReplicaSpec, say_why: Callable[[Unit, str], None]) -> probe.Outcome:
    """Probe the replica for its start timeout. The outcome's message is the reason where it did not become ready.

    Meanwhile `say_why` is called with the reason whenever that changes.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    deadline = begun + replica.start_timeout

    def told(outcome: probe.Outcome) -> None:
        say_why(unit, f"{outcome.message} ({loop.time() - begun:.0f} of {replica.start_timeout:g} s)")

    try:
        async with asyncio.timeout(replica.start_timeout):
            await unit.may_be_probed.wait()
    except TimeoutError:
        return probe.Outcome(False, "its startup code has not finished")
    outcome = await probe.until_ready(unit.port, replica.health_path, deadline - loop.time(), told=told)
    if outcome.listening:
        return outcome
    try:
        ports = await asyncio.to_thread(_listening_ports, unit.pid)
    except (OSError, RuntimeError):  # the machine is short of threads or files
        return outcome
    if not ports:
        return probe.Outcome(False, f"nothing listens on the port that it declares, {replica.port}")
    if replica.port in ports:
        message = (
            f"it listens on port {replica.port} itself, and only of a Python program is that turned into the app's own "
            "port; have it listen on $PORT"
        )
        return probe.Outcome(False, message)
    found = ", ".join(map(str, sorted(ports)))
    return probe.Outcome(False, f"it declares port {replica.port} and listens on {found}: declare that, or bind $PORT")


def _listening_ports(session: int) -> set[int]:
    """The TCP ports that a unit's processes listen on."""
    import psutil  # imported here because most agents never need it

    ports = set()
    for entry in process.entries():
        if entry.session == session:
            with contextlib.suppress(psutil.Error):
                found = psutil.Process(entry.pid).net_connections(kind="tcp")
                ports |= {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}
    return ports

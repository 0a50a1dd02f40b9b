"""Links without sockets: the control plane's real `Link`, and at the other end stand-ins for agent and gateway."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flyte import wire
from tarmac.links.server import Accept, Link
from tarmac.links.server import Peer as Owner
from tests.simulation.loop import Node
from tests.tarmac.fake_agent import Behave, FakeAgent, FakeWorker, Peer

if TYPE_CHECKING:
    from tests.simulation.world import World


class Wire:
    """The control plane's transport. What is sent arrives later, in order; when one end dies the other one notices."""

    def __init__(self, world: World, node: Node, link: Link, end: SimPeer) -> None:
        self._world, self._node, self._link, self._end = world, node, link, end
        self._is_closing = self._is_paused = False
        self._held: list[bytes] = []
        self._on_its_way: deque[bytes] = deque()
        """What was written and has not arrived."""
        self._last_in = self._last_out = 0.0
        self.stall = 0.0
        """Nothing arrives before this moment."""

    # ------------------------------------------------------------------ for the link

    def write(self, data: bytes) -> None:
        if data and not self._is_closing:
            self._on_its_way.append(bytes(data))
            self._world.loop.call_in(None, self._out(), self._arrive)

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        held, self._held = self._held, []
        for data in held:
            self._world.loop.call_soon(self._deliver, data)

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._is_closing:
            self.broken()
            self._world.loop.call_in(self._node, 0, self._link.connection_lost, None)

    # ------------------------------------------------------------------ for the world

    def broken(self) -> None:
        """The control plane has died, or closed the link: the other end notices."""
        self._is_closing = True
        self._world.loop.call_in(None, self._out(), self._end.ended)

    def died(self) -> int:
        """The control plane is killed: what the kernel has taken arrives, the rest is lost with the process.

        Returns how many of the writes were lost, or arrived in part. In a calm world all of them arrive.
        """
        written = sum(map(len, self._on_its_way))
        left = self._world.taken_at_death(written)
        lost = 0
        for number, data in enumerate(self._on_its_way):
            self._on_its_way[number] = data[:left]
            lost += len(data) > left
            left = max(0, left - len(data))
        self.broken()
        return lost

    def _arrive(self) -> None:
        self._end.arrived(self._on_its_way.popleft())

    def greet(self, hello: bytes, earliest: float) -> float:
        """The first that is sent. Returns when it arrives: not before `earliest`."""
        self._last_in = earliest
        self.feed(hello)
        return self._last_in

    def feed(self, data: bytes) -> None:
        self._world.loop.call_in(self._node, self._in(), self._deliver, data)

    def hang_up(self) -> None:
        self._world.loop.call_in(self._node, self._in(), self._hung_up)

    def _hung_up(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._link.connection_lost(None)

    def _deliver(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self._is_paused:
            self._held.append(data)
        else:
            self._link.data_received(data)

    def _in(self) -> float:
        self._last_in = self._later_than(self._last_in)
        return self._last_in - self._world.loop.now

    def _out(self) -> float:
        self._last_out = self._later_than(self._last_out)
        return self._last_out - self._world.loop.now

    def _later_than(self, last: float) -> float:
        """Timers of one moment come in any order, so no two of a direction are of one."""
        return max(last + 1e-7, self.stall, self._world.loop.now + self._world.latency("link"))


class SimPeer(Peer):
    """The stand-in's end of a link."""

    def __init__(self) -> None:
        self._unpacker = wire.Unpacker()
        self._frames: asyncio.Queue[wire.AnyFrame | None] = asyncio.Queue()
        self._is_closed = False
        self.drained = asyncio.Event()
        """Set when everything has arrived that was sent before the link was lost."""
        self.wire: Wire
        self.is_deaf_to: Callable[[wire.AnyFrame], bool] = lambda frame: False

    @property
    def is_closed(self) -> bool:
        return self._is_closed or self.wire.is_closing()

    def arrived(self, data: bytes) -> None:
        for frame in self._unpacker.feed(data):
            if not self.is_deaf_to(frame):
                self._frames.put_nowait(frame)

    def ended(self) -> None:
        self._frames.put_nowait(None)
        self.drained.set()

    def send(self, frame: wire.Frame) -> None:
        if not self._is_closed:
            self.wire.feed(wire.pack(frame))

    async def next(self) -> wire.AnyFrame | None:
        frame = None if self._is_closed else await self._frames.get()
        return None if self._is_closed else frame

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.ended()
            self.wire.hang_up()

    async def closed(self) -> None:
        self.close()


class Gate:
    """Where one control plane is connected to."""

    accept: Accept

    def __init__(self, world: World, node: Node) -> None:
        self._world, self._node = world, node
        self._wires: list[Wire] = []
        self._greeted = 0.0
        """When the first frame of the latest connection arrives."""

    def connect(self, hello: wire.Hello) -> SimPeer:
        """Connections are accepted in their order, as one socket does, so a process' latest link greets last."""
        peer = SimPeer()
        link = self._node.context.run(Link, self._accepted, self._world.loop.time)
        peer.wire = Wire(self._world, self._node, link, peer)
        self._wires.append(peer.wire)
        self._node.context.run(link.connection_made, cast("asyncio.BaseTransport", peer.wire))
        self._greeted = peer.wire.greet(wire.pack(hello), self._greeted)
        return peer

    def _accepted(self, link: Link, hello: wire.Hello) -> Owner:
        return self.accept(link, hello)

    def break_all(self) -> int:
        """The control plane is dead. Returns how many writes were lost with it."""
        return sum(each.died() for each in self._wires if not each.is_closing())

    def open_wires(self) -> list[Wire]:
        self._wires = [each for each in self._wires if not each.is_closing()]
        return self._wires


async def connect(world: World, hello: wire.Hello) -> SimPeer:
    """Raises ConnectionRefusedError where no control plane listens."""
    await asyncio.sleep(world.latency("link"))
    if world.node is None or world.node.dead or not world.listening:
        raise ConnectionRefusedError("nobody listens")
    return world.gate.connect(hello)


class SimAgent(FakeAgent):
    def __init__(self, world: World, behave: Behave) -> None:
        super().__init__(Path("/"), world.home.token(), behave)
        self._world = world
        self._coming: set[FakeAgent | FakeWorker] = set()
        """Who still reads what came over a link that was lost."""

    async def connect(self, hello: wire.Hello) -> Peer:
        peer = await connect(self._world, hello)
        peer.is_deaf_to = lambda frame: isinstance(frame, wire.StartUnit) and frame.pool.name.startswith("stuck")
        return peer

    def come_back(self) -> None:
        """Have everybody connect to a new control plane, each after it has read what came over the link it lost.

        Who still reads when yet another control plane is up goes on with that: a process makes one link at a time.
        """
        everybody: list[FakeAgent | FakeWorker] = [self, *self.workers.values()]
        for one in everybody:
            if one not in self._coming:
                self._coming.add(one)
                self.run(self._come_back(one))

    async def _come_back(self, one: FakeAgent | FakeWorker) -> None:
        if isinstance(one.link, SimPeer):
            await one.link.drained.wait()
        self._coming.discard(one)
        await one.live()


class SimGateway:
    """The gateway controller: it says that requests came, or that none did, and hears what is routed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._link: SimPeer | None = None
        self._woken: dict[int, asyncio.Future[wire.Woken]] = {}
        self._number = 0
        self.routes: dict[str, wire.Route] = {}

    async def live(self) -> None:
        hello = wire.Hello(kind="gateway", name="gateway", token=self._world.home.token())
        link = self._link = await connect(self._world, hello)
        while (frame := await link.next()) is not None:
            self._hear(link, frame)
        for waiting in self._woken.values():
            waiting.cancel()
        self._woken.clear()

    def _hear(self, link: SimPeer, frame: wire.AnyFrame) -> None:
        match frame:
            case wire.Routes():
                self.routes = {route.app: route for route in frame.routes}
            case wire.RouteChanged():
                self.routes[frame.route.app] = frame.route
                serving = sorted(replica.name for replica in frame.route.replicas)
                if not serving:
                    link.send(wire.Parted(app=frame.route.app))
            case wire.RouteRemoved():
                self.routes.pop(frame.app, None)
            case wire.Barrier():
                link.send(wire.Applied(number=frame.number))
            case wire.Woken():
                waiting = self._woken.pop(frame.key, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(frame)

    async def wake(self, app: str) -> wire.Woken:
        """A request came for an app of which no replica is routed."""
        assert self._link is not None
        self._number += 1
        waiting: asyncio.Future[wire.Woken] = asyncio.get_running_loop().create_future()
        self._woken[self._number] = waiting
        self._link.send(wire.Wake(app=app, key=self._number))
        return await waiting

    def quiet(self, app: str) -> None:
        """No request came for it for long."""
        assert self._link is not None
        names = sorted(replica.name for replica in self.routes[app].replicas)
        self._link.send(wire.Quiet(app=app, replicas=names))

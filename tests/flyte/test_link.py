"""A worker's end of its link: what must not get lost is said again to the next control plane."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte import wire


class Control:
    """One control plane after the other, at the same place; each has one link."""

    def __init__(self, path: Path) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._server.settimeout(10)
        self._link: socket.socket | None = None
        self._unpacker = wire.Unpacker()
        self._heard: list[wire.AnyFrame] = []

    def meet(self) -> None:
        """Be the next one, and hear its Hello."""
        self._link, _ = self._server.accept()
        self._link.settimeout(10)
        self._unpacker, self._heard = wire.Unpacker(), []
        assert isinstance(self.next(), wire.Hello)

    def next(self) -> wire.AnyFrame:
        assert self._link is not None
        while not self._heard:
            self._heard += self._unpacker.feed(self._link.recv(65_536))
        return self._heard.pop(0)

    def say(self, frame: wire.Frame) -> None:
        assert self._link is not None
        self._link.sendall(wire.pack(frame))

    def dies(self) -> None:
        assert self._link is not None
        self._link.close()

    def close(self) -> None:
        self.dies()
        self._server.close()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    with contextlib.closing(Control(tmp_path / "link.sock")) as control:
        yield control


WORKER = """
import asyncio, pathlib, sys

import msgspec

from flyte import wire
from flyte.runtime.action import Answers, Job
from flyte.runtime.link import Link


def receive(frames):
    answers.receive([frame for frame in frames if isinstance(frame, wire.CallResult)])
    return False


async def main():
    job = Job(ASSIGN, link, answers, pathlib.Path())
    calling = asyncio.ensure_future(job._ask(CALL.key, CALL))
    await asyncio.to_thread(sys.stdin.readline)
    calling.cancel()
    await asyncio.wait([calling])
    print("cancelled", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


ASSIGN, CALL = wire.Unpacker().feed(bytes.fromhex(sys.argv[2]))
link = Link(sys.argv[1], lambda: wire.Hello(kind="worker", name="w", token="t"), receive, lambda: None)
answers = Answers(link)
link.start()
asyncio.run(main())
"""

ASSIGN = wire.Assign(
    run="r", action="a0", attempt=1, task="t", version="v", entry="m:t", project="p", domain="d", inputs=wire.Value()
)
CALL = wire.Call(key=7, run="r", action="a0", attempt=1, task="t.child", inputs=wire.Value(inline=b"[]"))


@pytest.fixture
def worker(control: Control, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that makes CALL, cancels it with the first line that it reads, and ends with the next."""
    frames = (wire.pack(ASSIGN) + wire.pack(CALL)).hex()
    command = [sys.executable, "-c", WORKER, str(tmp_path / "link.sock"), frames]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_cancelled_call_is_cancelled_also_by_a_control_plane_that_never_heard_of_it(
    control: Control, worker: subprocess.Popen[str]
) -> None:
    assert worker.stdin is not None
    assert worker.stdout is not None
    control.meet()
    assert control.next() == CALL
    control.dies()
    print("cancel", file=worker.stdin, flush=True)
    assert worker.stdout.readline() == "cancelled\n"
    control.meet()
    assert [control.next(), control.next()] == [CALL, wire.CancelCall(key=7, run="r", action="a0", attempt=1)]
    control.say(wire.CallResult(key=7, action="", phase=wire.ActionPhase.ABORTED))
    control.say(wire.Ping(at=1.0))  # answered behind it
    assert control.next() == wire.Pong(at=1.0)
    control.dies()
    control.meet()
    control.say(wire.Ping(at=2.0))
    assert control.next() == wire.Pong(at=2.0), "what was answered is not said again"

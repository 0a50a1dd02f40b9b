"""The control plane's end of a link: many frames at once, and last words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyte import wire
from flyte.wire import AnyFrame, Hello
from tarmac.links.server import AT_ONCE, Link, listen

MANY = 5000


class Ear:
    """Hears what every peer says, in the order in which it is dealt with."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []
        self.gone: list[str] = []
        self.unfit: list[tuple[str, str]] = []
        self.turns = 0

    def accept(self, link: Link, hello: Hello) -> Speaker:
        return Speaker(self, hello.name)

    def of(self, name: str) -> list[int]:
        return [number for who, number in self.said if who == name]

    async def until(self, name: str, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.of(name)) < count:
                self.turns += 1
                await asyncio.sleep(0)


class Speaker:
    def __init__(self, ear: Ear, name: str) -> None:
        self._ear, self._name = ear, name

    def frame(self, frame: AnyFrame) -> None:
        assert isinstance(frame, wire.Progress)
        self._ear.said.append((self._name, frame.attempt))

    def unfit(self, frame: AnyFrame, problem: str) -> None:
        self._ear.unfit.append((self._name, problem))

    def lost(self, link: Link) -> None:
        self._ear.gone.append(self._name)


def words(name: str, count: int) -> bytes:
    hello = wire.pack(Hello(kind="worker", name=name, token=""))
    return hello + b"".join(
        wire.pack(wire.Progress(run="r", action="a", attempt=n, message="x" * 40)) for n in range(count)
    )


@pytest.fixture
async def heard(tmp_path: Path) -> AsyncIterator[tuple[Ear, str]]:
    ear = Ear()
    server = await listen(tmp_path / "link.sock", ear.accept)
    yield ear, str(tmp_path / "link.sock")
    server.close()


async def test_one_that_says_very_much_leaves_the_others_their_turn(heard: tuple[Ear, str]) -> None:
    ear, path = heard
    _, loud = await asyncio.open_unix_connection(path)
    _, quiet = await asyncio.open_unix_connection(path)
    loud.write(words("loud", MANY))
    await ear.until("loud", 1)
    quiet.write(words("quiet", 1))
    await ear.until("quiet", 1)
    assert len(ear.of("loud")) < MANY
    await ear.until("loud", MANY)
    assert ear.of("loud") == list(range(MANY))
    assert ear.turns >= MANY // AT_ONCE // 2
    for writer in (loud, quiet):
        writer.close()


async def test_everything_that_was_said_is_heard_before_the_end(heard: tuple[Ear, str]) -> None:
    ear, path = heard
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(words("brief", 1000))
    writer.close()
    async with asyncio.timeout(10):
        while not ear.gone:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert ear.of("brief") == list(range(1000))


async def test_a_frame_that_breaks_a_rule_is_not_heard_and_its_sender_is_told(heard: tuple[Ear, str]) -> None:
    ear, path = heard
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(words("odd", 1) + wire.pack(wire.Progress(run="r", action="a", attempt=-1, message="x")))
    writer.write(wire.pack(wire.Progress(run="r", action="a", attempt=7, message="x")))
    await ear.until("odd", 2)
    assert ear.of("odd") == [0, 7]
    ((who, problem),) = ear.unfit
    assert who == "odd"
    assert "attempt must be from 0" in problem
    writer.close()


async def test_a_hello_that_breaks_a_rule_is_refused(heard: tuple[Ear, str]) -> None:
    _, path = heard
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(wire.pack(Hello(kind="worker", name="../x", token="")))
    async with asyncio.timeout(10):
        (refused,) = wire.Unpacker().feed(await reader.read())
    assert isinstance(refused, wire.Refused)
    assert "process name '../x' at name must be" in refused.message
    writer.close()


async def test_a_frame_that_the_platform_fails_at_ends_its_own_link_alone(heard: tuple[Ear, str]) -> None:
    ear, path = heard
    reader, failing = await asyncio.open_unix_connection(path)
    _, other = await asyncio.open_unix_connection(path)
    failing.write(wire.pack(Hello(kind="worker", name="failing", token="")) + wire.pack(wire.Retire()))
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    other.write(words("other", 3))
    await ear.until("other", 3)
    for writer in (failing, other):
        writer.close()


@pytest.mark.parametrize("body", [b"\x91" * 5_000, b"\xa3\xed\xa0\x80", b"\xc1", b"", b"\x92\xa8Progress\xa1r"])
async def test_what_is_no_frame_ends_its_own_link_alone(heard: tuple[Ear, str], body: bytes) -> None:
    ear, path = heard
    reader, failing = await asyncio.open_unix_connection(path)
    _, other = await asyncio.open_unix_connection(path)
    failing.write(len(body).to_bytes(4, "little") + body)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    other.write(words("other", 3))
    await ear.until("other", 3)
    for writer in (failing, other):
        writer.close()

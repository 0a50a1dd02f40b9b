"""Following a stream of the platform: in order, once, and on from the last offset when the connection is lost.

Two kinds of stream exist. *Events* are server-sent: a snapshot, then numbered events, and a comment every 15 s. *Logs*
are JSON lines with byte offsets, and silent while nothing is written. Both are opened again from the last number seen,
and what arrives a second time is dropped here, so a consumer sees one unbroken stream. A stream that the platform
closes before its last message is not over: a control plane that restarts closes its streams too. `over` asks, in that
case.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import msgspec

from flyte._client.request import Request
from flyte._client.transport import Silence, Transport
from flyte.backoff import Pauses
from flyte.wire import Event, LogLine

T = TypeVar("T")
Kind = Literal["snapshot", "event"]


@dataclass(frozen=True, slots=True)
class Message:
    """One server-sent message."""

    kind: str
    seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class EventStream(Generic[T]):
    """What to follow, and how to know its end."""

    request: Request
    snapshot: type[T]
    is_last: Callable[[T | Event], bool]
    """Is this the message after which nothing comes?"""
    over: Callable[[], Awaitable[bool]]
    """Asked when the platform closed the stream without a message: is there nothing more to come?"""


async def messages(lines: AsyncIterator[bytes]) -> AsyncIterator[Message | None]:
    """The server-sent messages in `lines`; None for a comment, which is a heartbeat. Half a message is dropped."""
    kind, seq, data = "event", 0, list[bytes]()
    async for line in lines:
        if line.startswith(b":"):
            yield None
            continue
        if not line:
            if data:
                yield Message(kind, seq, b"\n".join(data))
            kind, data = "event", []
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value.decode()
        elif name == b"id":
            seq = int(value)


async def follow_events(
    transport: Transport, stream: EventStream[T], after: int | None = None
) -> AsyncGenerator[tuple[Kind, int, T | Event], None]:
    """(kind, seq, record) for the snapshot, unless `after` is given, and for every later event; ends after the last.

    Raises SystemUnavailableError when the platform stays away for longer than `transport.outage`.
    """
    pauses = Pauses(limit=transport.outage)
    while True:
        heard, reason = False, "the stream ended early"
        request = _with(stream.request, after=after)
        try:
            async with contextlib.aclosing(transport.lines(request)) as lines:
                async for message in messages(lines):
                    pauses.reset()
                    if message is None or (after is not None and message.seq <= after):
                        continue
                    heard, after = True, message.seq
                    kind, record = _decoded(message, stream.snapshot)
                    yield kind, message.seq, record
                    if stream.is_last(record):
                        return
            if not heard and await stream.over():
                return
        except ConnectionError as error:
            reason = str(error)
        if not await pauses.wait():
            raise transport.unavailable(reason)


def _decoded(message: Message, snapshot: type[T]) -> tuple[Kind, T | Event]:
    if message.kind == "snapshot":
        return "snapshot", msgspec.json.decode(message.data, type=snapshot)
    return "event", msgspec.json.decode(message.data, type=Event)


@dataclass(frozen=True, slots=True)
class LogPlace:
    """How far a log has been read: each source (an app's replica) and each attempt has offsets of its own."""

    attempt: int
    offset: int


async def follow_logs(
    transport: Transport, request: Request, over: Callable[[], Awaitable[bool]] | None
) -> AsyncGenerator[LogLine, None]:
    """The lines of a log. With `over` the log is followed until that says so; without, it is read once to its end."""
    pauses = Pauses(limit=transport.outage)
    places: dict[str, LogPlace] = {}
    resumed = request
    while True:
        heard, reason = False, "the log stream ended early"
        try:
            async with contextlib.aclosing(transport.lines(resumed)) as lines:
                async for text in lines:
                    pauses.reset()
                    line = _log_line(text) if text else None
                    if line is None or _seen(line, places):
                        continue
                    heard, places[line.source] = True, LogPlace(line.attempt, line.offset)
                    yield line
            if over is None or (not heard and await over()):
                return
            resumed = _resumed(request, places) if places else _again(request)  # what is new is in another log
        except Silence:
            pauses.reset()  # a log may be silent for as long as it likes; a new connection makes sure of it
            resumed = _resumed(request, places)
        except ConnectionError as error:
            reason = str(error)
            resumed = _resumed(request, places)
        if not await pauses.wait():
            raise transport.unavailable(reason)


LONGEST_LINE = 16 * 1024 * 1024
"""Characters of a line that are kept until its end is there; a longer one is handed out in pieces of that size."""


async def whole_lines(lines: AsyncGenerator[LogLine, None]) -> AsyncGenerator[LogLine, None]:
    """The lines, with the pieces of each put together."""
    begun: dict[str, list[LogLine]] = {}
    async with contextlib.aclosing(lines):
        async for line in lines:
            pieces = begun.setdefault(line.source, [])
            if pieces and pieces[-1].attempt != line.attempt:  # the attempt before ended in the middle of a line
                yield _together(pieces, False)
                pieces.clear()
            pieces.append(line)
            if not line.open or sum(len(piece.text) for piece in pieces) > LONGEST_LINE:
                yield _together(pieces, line.open)
                pieces.clear()
    for pieces in begun.values():
        if pieces:
            yield _together(pieces, False)


def _together(pieces: list[LogLine], is_open: bool) -> LogLine:
    if len(pieces) == 1 and pieces[0].open == is_open:
        return pieces[0]
    return msgspec.structs.replace(pieces[-1], text="".join(piece.text for piece in pieces), open=is_open)


def _log_line(text: bytes) -> LogLine:
    try:
        return msgspec.json.decode(text, type=LogLine)
    except msgspec.DecodeError as error:
        raise ConnectionError(f"half a line arrived: {error}") from error


def _seen(line: LogLine, places: dict[str, LogPlace]) -> bool:
    place = places.get(line.source)
    return place is not None and (line.attempt, line.offset) <= (place.attempt, place.offset)


def _resumed(request: Request, places: dict[str, LogPlace]) -> Request:
    """`request` from where we are. A byte offset is of one log; where there are several, `_seen` drops what we had.

    An action has one for each attempt: who follows it goes on from that attempt, and not from whichever is the last by
    now, unless one was named.
    """
    again = _again(request) if places else request
    if set(places) != {""} and not (len(places) == 1 and "replica" in request.params):
        return again
    (place,) = places.values()
    params = {**again.params, "after": str(place.offset)}
    if not request.params.keys() & {"replica", "attempt"}:
        params["from_attempt" if request.params.get("follow") == "1" else "attempt"] = str(place.attempt)
    return replace(again, params=params)


def _again(request: Request) -> Request:
    """`request` for the whole log, and not its tail."""
    params = {name: value for name, value in request.params.items() if name not in ("tail", "after")}
    return replace(request, params=params)


def _with(request: Request, *, after: int | None) -> Request:
    return request if after is None else replace(request, params={**request.params, "after": str(after)})

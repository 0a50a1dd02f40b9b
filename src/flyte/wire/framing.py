"""Frames as bytes on a link: four bytes of length (little endian), then the frame as msgpack."""

from __future__ import annotations

import functools
import struct

import msgspec

from flyte.wire.agent_frames import AgentFrame
from flyte.wire.frames import Frame, LinkFrame
from flyte.wire.gateway_frames import GatewayFrame

AnyFrame = LinkFrame | AgentFrame | GatewayFrame

FRAME_LIMIT = 16 * 1024 * 1024
_HEAD = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()


@functools.cache
def _decoder() -> msgspec.msgpack.Decoder[AnyFrame]:
    """Made on first use: that takes several milliseconds, and only the ends of a link need it."""
    return msgspec.msgpack.Decoder(AnyFrame)


class FrameError(ValueError):
    """Raised when the bytes on the link are not frames: the other side uses another protocol, or is broken."""


def pack(frame: Frame) -> bytes:
    """One frame as bytes, ready to be sent."""
    body = _encoder.encode(frame)
    if len(body) > FRAME_LIMIT:
        raise FrameError(f"a {type(frame).__name__} of {len(body):,} bytes is over the limit of {FRAME_LIMIT:,}")
    return _HEAD.pack(len(body)) + body


class Unpacker:
    """Turns the bytes that arrive on a link into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[AnyFrame]:
        """The frames that are complete now. Raises FrameError on anything else than frames."""
        buffer = self._buffer
        buffer += data
        frames: list[AnyFrame] = []
        at = 0
        while len(buffer) - at >= 4:
            (size,) = _HEAD.unpack_from(buffer, at)
            if size > FRAME_LIMIT:
                raise FrameError(f"a frame of {size:,} bytes is announced; the limit is {FRAME_LIMIT:,}")
            if len(buffer) - at - 4 < size:
                break
            try:
                frames.append(_decoder().decode(memoryview(buffer)[at + 4 : at + 4 + size].tobytes()))
            except (msgspec.DecodeError, RecursionError) as error:
                raise FrameError(str(error)) from error
            at += 4 + size
        if at:
            del buffer[:at]
        return frames

"""A bare ASGI app, which costs next to nothing itself, and several apps of one kind for many WebSockets.

GET / and POST / (the body comes back), GET /down/BYTES, POST /up (how many bytes came), GET /slow (a first part at
once, the second 50 ms later), WebSocket /echo.
"""

import asyncio

import flyte.app

_ARGS = ["uvicorn", "bare:app", "--port", "8080", "--no-access-log", "--log-level", "warning"]
_ARGS += ["--ws-ping-interval", "3600"]  # an idle WebSocket is to be idle


def _environment(name: str) -> flyte.app.AppEnvironment:
    scaling = flyte.app.Scaling(replicas=(1, 1))
    return flyte.app.AppEnvironment(name=name, args=_ARGS, port=8080, scaling=scaling, include=["bare.py"])


env = _environment("bench-bare")
many = [_environment(f"bench-sockets-{number}") for number in range(6)]
sockets = flyte.app.AppEnvironment(name="bench-sockets", args=_ARGS, port=8080, include=["bare.py"], depends_on=many)

_CHUNK = bytes(1024 * 1024)


async def app(scope, receive, send) -> None:
    if scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["path"].startswith("/down/"):
        await _down(int(scope["path"][6:]), send)
    elif scope["path"] == "/up":
        await _answer(send, b"%d" % sum([len(part) async for part in _body(receive)]))
    elif scope["path"] == "/slow":
        await _slow(send)
    else:
        await _answer(send, b"".join([part async for part in _body(receive)]) or b'{"ok": true}')


async def _body(receive):
    while True:
        message = await receive()
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _begin(send, length: int | None) -> None:
    headers = [(b"content-type", b"application/json")]
    no_buffer = (b"x-accel-buffering", b"no")  # what nginx is told by an app that streams
    headers += [(b"content-length", b"%d" % length)] if length is not None else [no_buffer]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _answer(send, body: bytes) -> None:
    await _begin(send, len(body))
    await send({"type": "http.response.body", "body": body})


async def _down(length: int, send) -> None:
    await _begin(send, length)
    for first in range(0, length, len(_CHUNK)):
        part = _CHUNK[: length - first]
        await send({"type": "http.response.body", "body": part, "more_body": first + len(part) < length})


async def _slow(send) -> None:
    await _begin(send, None)
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"second"})


async def _echo(receive, send) -> None:
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": message["text"]})


async def _live(receive, send) -> None:
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})

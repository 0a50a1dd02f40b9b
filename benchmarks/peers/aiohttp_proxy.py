"""PORT UPSTREAM: a proxy as one writes it with aiohttp. It streams both ways; small answers it passes on whole."""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host"}


async def proxy(request: web.Request) -> web.StreamResponse:
    session, url = request.app["session"], request.app["upstream"] + request.raw_path
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _sockets(request, session, url)
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_THE_CONNECTION}
    body = request.content if request.body_exists else None
    async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as upstream:
        kept = {name: value for name, value in upstream.headers.items() if name.lower() not in _OF_THE_CONNECTION}
        if upstream.content_length is not None and upstream.content_length < 65536:
            return web.Response(status=upstream.status, headers=kept, body=await upstream.read())
        answer = web.StreamResponse(status=upstream.status, headers=kept)
        await answer.prepare(request)
        async for part in upstream.content.iter_any():
            await answer.write(part)
        return answer


async def _sockets(request: web.Request, session: aiohttp.ClientSession, url: str) -> web.WebSocketResponse:
    client = web.WebSocketResponse()
    await client.prepare(request)
    async with session.ws_connect(url) as upstream:
        one, other = asyncio.create_task(_pipe(client, upstream)), asyncio.create_task(_pipe(upstream, client))
        _, pending = await asyncio.wait({one, other}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
    return client


async def _pipe(source, target) -> None:
    async for message in source:
        await (target.send_str if message.type is aiohttp.WSMsgType.TEXT else target.send_bytes)(message.data)


async def main(upstream: str) -> web.Application:
    app = web.Application(client_max_size=2**40)
    app["upstream"] = upstream
    app["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
    app.router.add_route("*", "/{path:.*}", proxy)
    return app


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    web.run_app(main(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)

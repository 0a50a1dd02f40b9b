"""A client: COUNT URL …. Opens so many WebSockets, spread over the URLs; prints `open`, waits for a line, sees that
each of them still answers, and tells how many did.
"""

import asyncio
import json
import resource
import sys

import aiohttp


async def main(count: int, urls: list[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    headers = json.loads(sys.stdin.readline())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        sockets = []
        for first in range(0, count, 50):
            some = range(first, min(first + 50, count))
            sockets += await asyncio.gather(*(session.ws_connect(urls[i % len(urls)], timeout=60) for i in some))
        print("open", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        for socket in sockets:
            await socket.send_str("ping")
            assert await socket.receive_str(timeout=60) == "ping"
        print(json.dumps([len(sockets)]), flush=True)


asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))

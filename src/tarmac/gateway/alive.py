"""The check that HAProxy answers, without the rest of the gateway: the supervisor imports it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tarmac.home import Home


async def answers(home: Home) -> bool:
    """Whether both of HAProxy's processes answer: the worker, which serves, and its master."""
    return await _says(home.haproxy_socket, b"show version\n") and await _says(
        home.haproxy_master_socket, b"show proc\n"
    )


async def _says(socket: Path, command: bytes) -> bool:
    """Whether the command gets any answer on this socket."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        writer.write(command)
        return bool(await reader.read(1))
    except OSError:
        return False
    finally:
        writer.close()

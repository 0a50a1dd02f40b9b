"""The sockets at which the controller listens for HAProxy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


async def listen(path: Path, protocol: Callable[[], asyncio.Protocol], backlog: int = 100) -> asyncio.AbstractServer:
    """Listen at `path` for HAProxy alone, in place of an earlier controller."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    server = await asyncio.get_running_loop().create_unix_server(protocol, str(path), backlog=backlog)
    os.chmod(path, 0o600)
    return server

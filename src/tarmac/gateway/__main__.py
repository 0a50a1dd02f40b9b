"""`python -m tarmac.gateway`: the gateway controller as a process of its own, ended by SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from flyte.errors import InitializationError
from tarmac import heartbeat
from tarmac import home as homes
from tarmac import settings as rows
from tarmac.gateway import controller


async def _run() -> None:
    home = homes.find()
    settings = rows.load(home.path)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    task = asyncio.create_task(controller.run(home, settings, heartbeat.begin(home, settings.lease)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass


def main() -> int:
    try:
        asyncio.run(_run())
    except InitializationError as error:
        print(error.message, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tarmac.agent`: the agent of the platform in TARMAC_HOME, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal

import uvloop

from tarmac import home, settings
from tarmac.agent import Agent


async def main() -> None:
    place = home.find()
    values = settings.load(place.path)
    logging.basicConfig(level=values.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = values.certificates()
    agent = Agent(place, grace=values.grace, common={} if folder is None else {"SSL_CERT_DIR": folder})
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    await agent.run()


if __name__ == "__main__":
    uvloop.run(main())

"""`python -m tarmac.agent`: the agent of the platform in TARMAC_HOME, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal

import uvloop

from tarmac import heartbeat, home, settings
from tarmac.agent import Agent


async def run() -> None:
    place = home.find()
    values = settings.load(place.path)
    logging.basicConfig(level=values.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = values.certificates()
    common = {} if folder is None else {"SSL_CERT_DIR": folder}
    agent = Agent(
        place,
        grace=values.grace,
        lease=values.lease,
        common=common,
        isolation=values.isolation,
        image_timeout=values.image_timeout,
        storage_url=values.storage_url,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    came_up = heartbeat.begin(place, values.lease)
    came_up()
    await agent.run()


def main() -> None:
    uvloop.run(run())


if __name__ == "__main__":
    main()

"""`python -m tarmac.supervisor [FD]`: FD is a pipe to which the outcome of the start is written, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from flyte.errors import BaseRuntimeError
from tarmac import home as homes
from tarmac import process
from tarmac import settings as all_settings
from tarmac.supervisor.address import GivenUp
from tarmac.supervisor.lock import locked
from tarmac.supervisor.supervisor import supervise


def _announce_to(fd: int) -> Callable[[GivenUp | None], None]:
    def announce(failure: GivenUp | None) -> None:
        news = asdict(failure) if failure else {}
        with contextlib.suppress(BrokenPipeError):  # `flyte up` was interrupted
            os.write(fd, json.dumps(news).encode())
        os.close(fd)

    return announce


def main(arguments: Sequence[str]) -> int:
    """Run the platform of this environment, until SIGTERM."""
    process.keep_files_private()
    home = homes.find()
    try:
        home.prepare()
        settings = all_settings.load(home.path)
    except (BaseRuntimeError, PermissionError) as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    announce = _announce_to(int(arguments[0])) if arguments else lambda failure: None
    if arguments:
        os.set_inheritable(int(arguments[0]), False)
    try:
        with locked(home):
            return 0 if asyncio.run(supervise(home, settings, announce)) else 1
    except BlockingIOError as error:
        announce(GivenUp(str(error)))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m tarmac.gateway.haproxy`: writes HAProxy's files and becomes HAProxy.

It is a process of its own, so that an error here ends nothing else.
"""

from __future__ import annotations

import os
import sys

from flyte.errors import BaseRuntimeError
from tarmac import home as homes
from tarmac import process
from tarmac import settings as all_settings
from tarmac.gateway import folder


def main() -> int:
    home = homes.find()
    try:
        command = folder.prepare(home, all_settings.load(home.path), process.life())
        os.execv(command[0], command)
    except (BaseRuntimeError, OSError) as error:
        print(f"HAProxy cannot be started: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

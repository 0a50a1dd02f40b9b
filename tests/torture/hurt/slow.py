"""A pool whose module takes two seconds to import.

`importing/PID` beside this file tells that a process does it, and `imported/PID` that it is done.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import flyte

from .notes import noted

_mark, _done = (Path(__file__).parent / word / str(os.getpid()) for word in ("importing", "imported"))
for _folder in (_mark.parent, _done.parent):
    _folder.mkdir(exist_ok=True)
_mark.touch()
time.sleep(2)
_mark.rename(_done)

env = flyte.TaskEnvironment(name="slow")


@env.task
async def imported(where: str) -> int:
    with noted(where):
        return 1

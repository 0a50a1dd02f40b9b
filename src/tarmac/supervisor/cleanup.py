"""The cleanup process: it kills the leftovers of a supervisor that was killed.

The kernel kills the supervisor's children with it (see `process`), and their children with them. But that chain ends
with the platform's own processes: a program that a task or an app has started runs on, and so does a HAProxy worker
that is stopped (SIGSTOP) and cannot notice the end of its master. So a process waits beside the supervisor, in a
session of its own and without asking the kernel for its own death: its standard input is a pipe whose other end only
the supervisor has. When that pipe closes, it kills every process that carries the platform's mark.

It waits as a shell, which needs a quarter of a megabyte, and becomes this module only when the pipe closes. Then it
takes the platform's lock, so that an `up` waits for it; where another supervisor has the lock already, that supervisor
has cleaned up. The supervisor restarts it when it dies, and ends it last. If both are killed at once, the next `up` or
`down` cleans up.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tarmac import home as homes
from tarmac import process
from tarmac.process import Child
from tarmac.supervisor.lock import locked

LIMIT = 4.0
"""Seconds in which killed processes should be gone: less than the next supervisor waits for the lock."""

_LOCK_PATIENCE = 0.5

COMMAND = ("/bin/sh", "-c", 'read -r _; exec "$@"', "tarmac-cleanup", sys.executable, "-m", "tarmac.supervisor.cleanup")


def start(env: Mapping[str, str], cwd: Path, log: Path) -> Child:
    """Start the process that waits for the end of this one. Raises OSError."""
    with log.open("ab") as output:
        return subprocess.Popen(
            COMMAND,
            env=env,
            cwd=cwd,
            stdin=process.lifeline(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def main() -> int:
    home = homes.find()
    try:
        with locked(home, _LOCK_PATIENCE):
            left = process.end_marked(home.path, LIMIT)
            home.state_file.unlink(missing_ok=True)
    except BlockingIOError:
        return 0
    if left:
        print(f"these processes of the platform do not end: {sorted(left)}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())

"""The last will: what is done when the supervisor is gone and could not end the platform itself.

The kernel ends the supervisor's children with it (see `process`), and theirs with them. But that chain ends where the
platform's own processes do: what a task or an app has started lives on, and so does a stopped worker of HAProxy, which
would have left by noticing that its master is gone. So a process waits beside the supervisor, in a session of its own,
and not asking for its own death: its standard input is a pipe whose other end nobody but the supervisor has. At the end
of that pipe it kills whatever has the platform's mark.

It waits as a shell, which takes a quarter of a megabyte, and becomes this module only at the end of the pipe. Then it
holds the platform's lock, so that an `up` waits for it; where another supervisor has the lock already, that one has
cleaned up. The supervisor keeps it alive, and ends it last. If both are killed at once, the next `up` or `down` does
the same.
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
"""Seconds within which what is killed should be gone: less than the next supervisor waits for the lock."""

_LOCK_PATIENCE = 0.5

COMMAND = ("/bin/sh", "-c", 'read -r _; exec "$@"', "last-will", sys.executable, "-m", "tarmac.supervisor.will")


def start(env: Mapping[str, str], cwd: Path, log: Path) -> Child:
    """The process that waits for our end. Raises OSError."""
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

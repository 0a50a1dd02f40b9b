"""How the agent starts a Python of its own that forks others: a preload process, or a pool's fork server."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from tarmac import process


def start(
    python: str, module: str, worker: str, env: Mapping[str, str], link: int, output: int
) -> subprocess.Popen[bytes]:
    """Run `module`, which has the socket `link` and writes to `output`, in a session of its own. Raises OSError."""
    # -P: the working directory, which is full of the user's modules, is not where ours are looked for
    return subprocess.Popen(
        (python, "-P", "-m", module, "--fd", str(link), "--worker", worker),
        env=env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(link,),
        start_new_session=True,
        umask=process.users_umask(),
    )

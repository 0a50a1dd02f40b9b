"""A worker's life as tests need it: STUB says what to do once it is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time


def serve(reuse: bool, concurrency: int) -> None:
    what, _, rest = os.environ.get("STUB", "wait").partition(":")
    print(f"worker {os.environ['FLYTE_UNIT']} reuse={reuse} concurrency={concurrency} {random.random()}")
    match what:
        case "exit":
            sys.exit(int(rest))
        case "code":
            exec(rest, {})
        case "raise":
            raise RuntimeError(rest)
        case "kill":
            print("last words")
            os.kill(os.getpid(), int(rest))
        case "children":
            _start_children()
        case "hoard":
            hoard = []
            for _ in range(int(rest)):
                hoard.append(bytearray(b"x") * 2**20)
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("deaf now")
    time.sleep(600)


def _start_children() -> None:
    """One in our process group, one in a session of its own."""
    here = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    away = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(f"children {here.pid} {away.pid}")

"""Prefect with a server of its own (SQLite): a task that is called from here, and a flow that maps one over many.

A task outside of a flow takes a fifteenth of the time of a flow with one task.
"""

import os
import subprocess
import sys

port = os.environ["BENCH_PORT"]
os.environ |= {
    "PREFECT_HOME": f"{os.environ['BENCH_HOME']}/prefect",
    "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}

import turns  # noqa: E402 -- Prefect reads its settings when it is imported
from prefect import flow, task  # noqa: E402


@task
def add(x: int) -> int:
    return x + 1


@flow
def many(number: int) -> int:
    return sum(add.map(range(number)).result())


if __name__ == "__main__":
    serve = [sys.executable, "-m", "prefect", "server", "start", "--port", port, "--log-level", "ERROR"]
    null = subprocess.DEVNULL
    with subprocess.Popen(serve, stdin=null, stdout=null) as server:
        try:
            turns.await_port(int(port), 120)
            turns.serve(lambda: add(1), many)
        finally:
            server.terminate()
            server.wait(30)

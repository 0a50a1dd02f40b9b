"""DBOS in this process: a workflow with one step, and one that gathers many; its record in SQLite or in PostgreSQL."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import turns
from dbos import DBOS, DBOSConfig


@contextmanager
def sqlite() -> Iterator[str]:
    yield f"sqlite:///{os.environ['BENCH_HOME']}/dbos.sqlite"


@contextmanager
def postgres() -> Iterator[str]:
    """A server of its own, durable as PostgreSQL is by default. It refuses to run as root."""
    folder, port, owner = Path(os.environ["BENCH_HOME"]), os.environ["BENCH_PORT"], None
    if os.getuid() == 0:
        owner = "postgres"
        shutil.chown(folder, owner)
    data, null = folder / "data", subprocess.DEVNULL
    make = ["initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", str(data)]
    subprocess.run(make, user=owner, cwd=folder, check=True, stdout=null)
    listen = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={folder}"]
    with subprocess.Popen(["postgres", "-D", str(data), *listen], user=owner, cwd=folder, stdin=null) as server:
        try:
            turns.await_port(int(port))
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/bench"
        finally:
            server.send_signal(signal.SIGINT)


@DBOS.step()
async def add(x: int) -> int:
    return x + 1


@DBOS.workflow()
async def one(x: int) -> int:
    return await add(x)


@DBOS.workflow()
async def many(number: int) -> int:
    return sum(await asyncio.gather(*(add(i) for i in range(number))))


if __name__ == "__main__":
    with {"sqlite": sqlite, "postgres": postgres}[sys.argv[1]]() as url, asyncio.Runner() as loop:
        config: DBOSConfig = {"name": "bench", "system_database_url": url, "run_admin_server": False}
        DBOS(config=config)
        DBOS.launch()
        try:
            turns.serve(lambda: loop.run(one(1)), lambda number: loop.run(many(number)))
        finally:
            DBOS.destroy()

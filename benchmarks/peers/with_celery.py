"""Celery with Redis, which keeps nothing on disk: two prefork workers, one for each core."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import turns
from celery_tasks import add, app


@contextmanager
def broker_and_worker() -> Iterator[None]:
    redis = ["redis-server", "--port", os.environ["BENCH_PORT"], "--save", "", "--appendonly", "no"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    worker = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--pool", "prefork", "-c", "2", *quiet]
    null = subprocess.DEVNULL
    with subprocess.Popen(redis, cwd=os.environ["BENCH_HOME"], stdin=null, stdout=null) as broker:
        turns.await_port(int(os.environ["BENCH_PORT"]))
        with subprocess.Popen(worker, stdin=null, stdout=null) as workers:
            try:
                yield
            finally:
                app.close()
                workers.terminate()
                workers.wait(20)
                broker.terminate()


def run() -> int:
    return add.delay(1).get(timeout=60)


def fan(number: int) -> int:
    sent = [add.delay(i) for i in range(number)]  # a group of them took twice as long
    return sum(result.get(timeout=300) for result in sent)


if __name__ == "__main__":
    with broker_and_worker():
        if sys.argv[1] == "web":
            import uvicorn

            turns.warm_up(run, fan)
            uvicorn.run("celery_web:app", port=int(sys.argv[2]), log_level="error")
        else:
            turns.serve(run, fan)

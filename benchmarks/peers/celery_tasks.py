"""Celery's app and its task: JSON, Redis as broker and as result backend."""

import os

from celery import Celery

redis = f"redis://127.0.0.1:{os.environ['BENCH_PORT']}"
app = Celery("bench", broker=f"{redis}/0", backend=f"{redis}/1")
app.conf.update(task_serializer="json", result_serializer="json", accept_content=["json"], task_track_started=False)


@app.task
def add(x: int) -> int:
    return x + 1

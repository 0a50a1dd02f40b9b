"""FastAPI in front of Celery. `get` blocks, so the endpoint is a plain function, which FastAPI runs in a thread."""

from celery_tasks import add
from fastapi import Body, FastAPI

app = FastAPI()


@app.post("/run")
def run(x: int = Body(embed=True)) -> dict:
    return {"status": "succeeded", "outputs": [add.delay(x).get(timeout=60)]}

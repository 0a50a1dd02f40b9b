"""An app that runs tasks: other programs POST an order, a task prices it.

    flyte deploy examples/webhook.py
    curl -X POST "$(flyte get app order-webhook -o url)/orders?wait=true" \
      -H "Authorization: Bearer test-api-key" -H "Content-Type: application/json" \
      -d '{"item": "tea", "count": 3}'

The platform's own check is off (`requires_auth=False`), because the senders of webhooks bring keys of their own.
"""

import hmac
import os
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

import flyte
import flyte.remote
from flyte.app.extras import FastAPIAppEnvironment

PRICES = {"tea": 250, "coffee": 320}
"""Cents for one piece."""

KEY = os.getenv("WEBHOOK_API_KEY", "test-api-key")


class Order(BaseModel):
    item: str
    count: int = Field(default=1, ge=1)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await flyte.init_in_cluster.aio()
    yield


image = flyte.Image.from_debian_base().with_pip_packages("fastapi", "uvicorn")
task_env = flyte.TaskEnvironment(name="orders", image=image)
app = FastAPI(title="Order webhook", lifespan=lifespan)
app_env = FastAPIAppEnvironment(
    name="order-webhook",
    app=app,
    image=image,
    requires_auth=False,
    env_vars={"WEBHOOK_API_KEY": KEY},
    depends_on=[task_env],
)


@task_env.task
async def price_order(order: Order) -> int:
    """The order's price in cents."""
    if order.item not in PRICES:
        raise ValueError(f"no such item: {order.item!r}; there are {', '.join(sorted(PRICES))}")
    return PRICES[order.item] * order.count


def check_key(authorization: str) -> None:
    if not hmac.compare_digest(authorization.encode(), f"Bearer {KEY}".encode()):
        raise HTTPException(403, "wrong key")


@app.post("/orders")
async def receive(order: Order, authorization: Annotated[str, Header()], wait: bool = False) -> dict[str, Any]:
    """Start a run for the order; with `?wait=true` answer when it has ended."""
    check_key(authorization)
    task = await flyte.remote.TaskDetails.fetch(name="price_order", auto_version="latest")
    run = await flyte.run.aio(task, order=order.model_dump())
    if wait:
        run.wait()
        if run.status != "succeeded":
            raise HTTPException(422, f"the run {run.status}; see {run.url}")
    return {"id": run.id, "url": run.url, "status": run.status, "outputs": run.outputs() if wait else None}


@app.get("/orders/{run_id}")
async def look_up(run_id: str, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    check_key(authorization)
    run = await flyte.remote.Run.get.aio(name=run_id)
    return {"id": run.id, "url": run.url, "status": run.status}


if __name__ == "__main__":
    flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
    print(flyte.deploy(app_env)[0].summary_repr())

"""A FastAPI app: small answers for the gateway's benchmarks, a webhook that waits for its task, and app → app."""

import os
import time

import httpx
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

import flyte
import flyte.remote as remote
from flyte.app import Scaling
from flyte.app.extras import FastAPIAppEnvironment

backend_app = FastAPI()
backend = FastAPIAppEnvironment(name="bench-backend", app=backend_app, requires_auth=False)
app = FastAPI()
env = FastAPIAppEnvironment(name="bench-app", app=app, requires_auth=False, depends_on=[backend])
guarded = FastAPIAppEnvironment(name="bench-guarded", app=app)
sleeper = FastAPIAppEnvironment(
    name="bench-sleeper", app=backend_app, requires_auth=False, scaling=Scaling(replicas=(0, 1), scaledown_after=1)
)


@backend_app.get("/greeting/{name}")
async def greeting(name: str) -> str:
    return f"Hello, {name}!"


@app.get("/")
async def small() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.get("/certificates")
async def certificates() -> str | None:
    """The certificate folder that the platform gave this process."""
    return os.environ.get("SSL_CERT_DIR")


@app.post("/json")
async def echo(body: dict) -> dict:
    return body


@app.get("/greeting/{name}")
async def proxied(name: str) -> str:
    async with httpx.AsyncClient() as client:
        response = await client.get(f"{backend.endpoint}/greeting/{name}")
        response.raise_for_status()
        return response.json()


@app.post("/run/{task}")
async def run_and_wait(task: str, inputs: dict) -> dict:
    await flyte.init_in_cluster.aio()
    run = await flyte.run.aio(remote.Task.get(task, auto_version="latest"), **inputs)
    await run.wait.aio(quiet=True)
    return {"status": run.status, "outputs": await run.outputs.aio()}


@app.get("/measure/{task}/{count}")
async def measure(task: str, count: int) -> list[float]:
    """Milliseconds of so many runs, one after the other, each from `flyte.run` to its value in this process."""
    await flyte.init_in_cluster.aio()
    found = remote.Task.get(task, auto_version="latest")
    values = []
    for _ in range(count):
        began = time.perf_counter()
        run = await flyte.run.aio(found, x=1)
        await run.wait.aio(quiet=True)
        outputs = list(await run.outputs.aio())
        values.append((time.perf_counter() - began) * 1e3)
        assert outputs == [2], outputs
    return values


@app.websocket("/echo")
async def pong(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass

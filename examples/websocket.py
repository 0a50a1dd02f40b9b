"""WebSockets: rooms whose members hear each other, and a task whose progress is streamed to who started it.

    flyte deploy examples/websocket.py
    python -m websockets ws://127.0.0.1:PORT/rooms/tea      # the app's port, from `flyte get app`

Rooms live in the app's memory, so the app has one replica.
"""

import asyncio
import pathlib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

import flyte
import flyte.remote
from flyte.app.extras import FastAPIAppEnvironment


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await flyte.init_in_cluster.aio()
    yield


image = flyte.Image.from_debian_base().with_pip_packages("fastapi", "uvicorn", "websockets")
task_env = flyte.TaskEnvironment(name="counting", image=image)
app = FastAPI(title="Rooms", lifespan=lifespan)
app_env = FastAPIAppEnvironment(
    name="rooms",
    app=app,
    image=image,
    scaling=flyte.app.Scaling(replicas=(0, 1)),
    requires_auth=False,
    depends_on=[task_env],
)
rooms: dict[str, set[WebSocket]] = defaultdict(set)


@task_env.task
async def count_words(text: str) -> int:
    await asyncio.sleep(0.2)
    return len(text.split())


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@app.websocket("/rooms/{room}")
async def join(socket: WebSocket, room: str) -> None:
    """Everything that one member says reaches all others in the room."""
    await socket.accept()
    members = rooms[room]
    members.add(socket)
    await socket.send_json({"members": len(members)})
    try:
        while True:
            said = await socket.receive_text()
            for other in members - {socket}:
                await other.send_json({"said": said})
    except WebSocketDisconnect:
        members.discard(socket)


@app.websocket("/count")
async def count(socket: WebSocket) -> None:
    """For each text received: start a task, send what happens to it, then its result."""
    await socket.accept()
    try:
        while True:
            text = await socket.receive_text()
            task = await flyte.remote.TaskDetails.fetch(name="count_words", auto_version="latest")
            run = await flyte.run.aio(task, text=text)
            async for update in run.stream():
                await socket.send_json({"status": update.status, "message": update.message})
            await socket.send_json({"run": run.id, "outputs": run.outputs()})
    except WebSocketDisconnect:
        pass


if __name__ == "__main__":
    flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
    print(flyte.deploy(app_env)[0].summary_repr())

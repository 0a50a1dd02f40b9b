"""In the place of the page's `websocket/basic_websocket.py`: greets, echoes, and tells everybody.

The page's later blocks go on with `app`, `env` and `manager`, and with what is imported here.
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI(title="Sockets", version="1.0.0")


class ConnectionManager:
    """Who is connected, in this replica's memory."""

    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def send_personal_message(self, message: str, websocket: WebSocket) -> None:
        await websocket.send_text(message)

    async def broadcast(self, message: str) -> None:
        """Send to everybody; one who is gone already does not keep it from the others."""
        await asyncio.gather(*(peer.send_text(message) for peer in self.active_connections), return_exceptions=True)


manager = ConnectionManager()


def _note(kind: str, message: str, **more: Any) -> str:
    return json.dumps({"type": kind, "message": message, "timestamp": datetime.now(UTC).isoformat(), **more})


@app.websocket("/ws")
async def websocket_endpoint(websocket: WebSocket) -> None:
    await manager.connect(websocket)
    try:
        await manager.send_personal_message(_note("system", "Welcome! You are connected."), websocket)
        while True:
            text = await websocket.receive_text()
            await manager.send_personal_message(_note("echo", f"Echo: {text}"), websocket)
            count = len(manager.active_connections)
            await manager.broadcast(_note("broadcast", f"Broadcast: {text}", connections=count))
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast(_note("system", "A client disconnected", connections=len(manager.active_connections)))


env = FastAPIAppEnvironment(
    name="websocket-app",
    app=app,
    image=flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn", "websockets"),
    resources=flyte.Resources(cpu=1, memory="1Gi"),
    requires_auth=False,
)

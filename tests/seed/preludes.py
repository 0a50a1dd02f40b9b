"""What a block of the page needs around it, and nothing more.

`BEFORE` gives a continuation the names it assumes; with it alone the block imports. `AFTER` makes what was imported an
app that can be served: the page leaves its environment to the reader. The keys are the lines of the blocks' fences.
"""

from __future__ import annotations

from tests.seed.page import Page

_FASTAPI = """\
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment
"""

_SOCKETS = """\
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
env = FastAPIAppEnvironment(name="sockets", app=app, requires_auth=False)
"""

_WEBHOOK = """\
import os
from contextlib import asynccontextmanager

import flyte
import flyte.remote as remote
from fastapi import FastAPI, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from flyte.app.extras import FastAPIAppEnvironment

security = HTTPBearer()


async def verify_token(credentials: HTTPAuthorizationCredentials = Security(security)):
    if credentials.credentials != "test-api-key":
        raise HTTPException(403, "this is not the webhook's key")
    return credentials


@asynccontextmanager
async def lifespan(app):
    await flyte.init_in_cluster.aio()
    yield


app = FastAPI(lifespan=lifespan)
"""

BEFORE: dict[int, str] = {
    39: """\
import flyte
import httpx
from fastapi import FastAPI, HTTPException
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
app_env = FastAPIAppEnvironment(name="echo-app", app=app, requires_auth=False)
task_env = flyte.TaskEnvironment(name="calling-env", depends_on=[app_env])


@app.post("/process")
async def process(data: dict) -> dict:
    if "fail" in data:
        raise HTTPException(500, "as was asked for")
    return {"echo": data}
""",
    118: "import flyte.remote as remote\n" + _FASTAPI,
    178: _WEBHOOK,
    213: _WEBHOOK,
    245: _FASTAPI + "\napp = FastAPI()\n",
    256: "import os\n",
    385: "import os\n\nimport flyte.app\nimport httpx\n" + _FASTAPI + "\napp2 = FastAPI()\n",
    420: _SOCKETS,
    434: _SOCKETS
    + """

class ConnectionManager:
    def __init__(self):
        self.active_connections = []

    async def connect(self, websocket):
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket):
        self.active_connections.remove(websocket)

    async def broadcast(self, message):
        for connection in self.active_connections:
            await connection.send_text(message)


manager = ConnectionManager()
""",
    448: "import asyncio\nimport random\nfrom datetime import datetime\n\n" + _SOCKETS,
    464: _SOCKETS,
    505: "import json\n\nimport flyte\nimport flyte.remote as remote\n" + _SOCKETS,
}

GITHUB_NAMES = """\
import os

import flyte
import flyte.remote as remote
from fastapi import HTTPException
from flyte.app.extras import FastAPIAppEnvironment
"""
"""What block 282 uses when it is called, and does not import."""

AFTER: dict[int, str] = {
    118: 'env = FastAPIAppEnvironment(name="task-runner-api", app=app, requires_auth=False)\n',
    282: """\
env = FastAPIAppEnvironment(
    name="github-webhook",
    app=app,
    requires_auth=False,
    secrets=flyte.Secret(key="github-webhook-secret", as_env_var="GITHUB_WEBHOOK_SECRET"),
)
""",
}


def program(page: Page, *lines: int, before: str | None = None, after: str | None = None) -> str:
    """Blocks as one program: behind the first one's prelude, unless `before` is given, and before `after`."""
    head = BEFORE.get(lines[0], "") if before is None else before
    tail = AFTER.get(lines[-1], "") if after is None else after
    return "\n\n".join(part for part in (head, *map(page.block, lines), tail) if part)


def filled_in(text: str, fetched: str) -> str:
    """The block with what a reader puts in the place of `fetch(...)`, which the page leaves open."""
    assert "TaskDetails.fetch(...)" in text
    return text.replace("TaskDetails.fetch(...)", f"TaskDetails.fetch({fetched})")

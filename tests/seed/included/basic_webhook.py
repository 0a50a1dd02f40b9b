"""In the place of the page's `webhook/basic_webhook.py`: runs any deployed task for whoever has the key.

The page's later blocks go on with `app`, `env`, `security` and `verify_token`, and with what is imported here.
"""

import os
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette import status

import flyte
import flyte.remote as remote
from flyte.app.extras import FastAPIAppEnvironment

WEBHOOK_API_KEY = os.getenv("WEBHOOK_API_KEY", "test-api-key")
security = HTTPBearer()


async def verify_token(
    credentials: HTTPAuthorizationCredentials = Security(security),  # noqa: B008 - FastAPI reads it
) -> HTTPAuthorizationCredentials:
    if credentials.credentials == WEBHOOK_API_KEY:
        return credentials
    raise HTTPException(status.HTTP_403_FORBIDDEN, detail="this is not the webhook's key")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await flyte.init_in_cluster.aio()
    yield


app = FastAPI(title="Task runner", description="Starts runs for others", version="1.0.0", lifespan=lifespan)


@app.get("/health")
async def health_check() -> dict[str, str]:
    return {"status": "healthy"}


@app.post("/run-task/{project}/{domain}/{name}/{version}")
async def run_task(
    project: str,
    domain: str,
    name: str,
    version: str,
    inputs: dict[str, Any],
    credentials: HTTPAuthorizationCredentials = Security(verify_token),  # noqa: B008 - FastAPI reads it
) -> dict[str, str]:
    task = remote.Task.get(project=project, domain=domain, name=name, version=version)
    run = await flyte.run.aio(task, **inputs)
    return {"url": run.url, "id": run.id, "status": "started"}


env = FastAPIAppEnvironment(
    name="webhook-runner",
    app=app,
    description="Starts runs for whoever has the key",
    image=flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn"),
    resources=flyte.Resources(cpu=1, memory="512Mi"),
    requires_auth=False,  # the senders of webhooks bring a key of their own
    env_vars={"WEBHOOK_API_KEY": os.getenv("WEBHOOK_API_KEY", "test-api-key")},
)


if __name__ == "__main__":
    flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
    print(flyte.deploy(env)[0].summary_repr())

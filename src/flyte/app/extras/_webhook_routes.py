"""The functions behind the webhook app's endpoints. They need FastAPI: imported when such an app is made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

import flyte
from flyte.app.extras._auth import FastAPIPassthroughAuthMiddleware
from flyte.app.extras._webhook_endpoints import ENDPOINTS, OPEN_PATHS, Allowed
from flyte.errors import BaseRuntimeError

_CALL_TIMEOUT = 30.0
"""Seconds that another app has to answer."""
_LARGEST_ANSWER = 16 * 1024 * 1024


def make_app(name: str, title: str, description: str | None, endpoints: Sequence[str], allowed: Allowed) -> FastAPI:
    """The FastAPI application of the webhook app `name`, with these endpoints."""
    app = FastAPI(
        title=title,
        description=description or "Runs tasks and looks after runs and apps.",
        version="1.0.0",
        lifespan=_lifespan,
    )
    app.add_middleware(FastAPIPassthroughAuthMiddleware, excluded_paths=OPEN_PATHS)
    app.add_exception_handler(BaseRuntimeError, _explained)
    handlers = Handlers(name, allowed)
    for endpoint in endpoints:
        _, method, path = ENDPOINTS[endpoint]
        app.add_api_route(path, getattr(handlers, endpoint), methods=[method], name=endpoint)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await flyte.init_passthrough.aio()
    yield


async def _explained(request: Request, error: Exception) -> JSONResponse:
    """The platform's own status and message as an HTTP error."""
    assert isinstance(error, BaseRuntimeError)
    return JSONResponse({"detail": error.message, "code": error.code}, status_code=error.status)


class Handlers:
    """One method for each endpoint."""

    def __init__(self, name: str, allowed: Allowed) -> None:
        self._name = name
        """The name of the webhook app itself."""
        self._allowed = allowed

    # ---- core

    async def health(self) -> dict[str, str]:
        return {"status": "healthy"}

    async def me(self) -> dict[str, str]:
        """The caller's name and kind, as the platform has them."""
        user = await flyte.remote.User.get.aio()
        return {"subject": user.subject(), "name": user.name()}

    # ---- tasks

    async def run_task(
        self, domain: str, project: str, name: str, inputs: dict[str, Any], version: str | None = None
    ) -> dict[str, str]:
        """Start a run; the body holds the inputs by name."""
        task = await self._task(domain, project, name, version)
        run = await flyte.run.aio(task, **inputs)
        return {"url": run.url, "name": run.name}

    async def get_task(self, domain: str, project: str, name: str, version: str | None = None) -> dict[str, Any]:
        """The task's versions and inputs."""
        task = await self._task(domain, project, name, version)
        return dict(task.to_dict())

    async def _task(self, domain: str, project: str, name: str, version: str | None) -> Any:
        if not self._allowed.task(domain, project, name):
            raise HTTPException(403, f"the task {domain}/{project}/{name} is not on this app's allow-list")
        latest: Literal["latest"] | None = None if version else "latest"
        return await flyte.remote.TaskDetails.fetch(
            name=name, project=project, domain=domain, version=version, auto_version=latest
        )

    # ---- runs

    async def get_run(self, name: str) -> dict[str, Any]:
        run = await flyte.remote.Run.get.aio(name)
        return {"name": run.name, "phase": str(run.phase), "url": run.url, "done": run.done()}

    async def get_run_io(self, name: str) -> dict[str, Any]:
        """Inputs, and outputs once the run has succeeded."""
        run = await flyte.remote.Run.get.aio(name)
        succeeded = str(run.phase) == "succeeded"
        return {
            "name": run.name,
            "phase": str(run.phase),
            "inputs": await run.input_literals.aio(),
            "outputs": await run.output_literals.aio() if succeeded else None,
        }

    async def abort_run(self, name: str, reason: str = "Aborted via webhook API") -> dict[str, str]:
        run = await flyte.remote.Run.get.aio(name)
        await run.abort.aio(reason)
        return {"name": name, "status": "abort_requested", "reason": reason}

    # ---- apps

    async def get_app(self, name: str, domain: str | None = None, project: str | None = None) -> dict[str, Any]:
        return _described(await self._app(name, domain, project))

    async def activate_app(
        self, name: str, domain: str | None = None, project: str | None = None, wait: bool = False
    ) -> dict[str, Any]:
        app = await self._app(name, domain, project)
        return _described(await app.activate.aio(wait=wait))

    async def deactivate_app(
        self, name: str, domain: str | None = None, project: str | None = None, wait: bool = False
    ) -> dict[str, Any]:
        app = await self._app(name, domain, project)
        return _described(await app.deactivate.aio(wait=wait))

    async def call_app(
        self,
        request: Request,
        name: str,
        path: str,
        method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET",
        domain: str | None = None,
        project: str | None = None,
        payload: Annotated[Any, Body()] = None,
        query_params: Annotated[dict[str, str] | None, Body()] = None,
    ) -> Any:
        """Send a request to another app, with the caller's credentials, and return its answer."""
        app = await self._app(name, domain, project)
        query = f"?{urllib.parse.urlencode(query_params)}" if query_params else ""
        url = f"{app.endpoint.rstrip('/')}/{path.lstrip('/')}{query}"
        return await asyncio.to_thread(_asked, url, method, payload, request.headers.get("authorization"))

    async def _app(self, name: str, domain: str | None, project: str | None) -> Any:
        if name == self._name:
            raise HTTPException(400, f"{name} cannot act on itself")
        if not self._allowed.app(name):
            raise HTTPException(403, f"the app {name} is not on this app's allow-list")
        return await flyte.remote.App.get.aio(name=name, project=project, domain=domain)

    # ---- triggers, images, models

    async def activate_trigger(self, task_name: str, trigger_name: str) -> dict[str, Any]:
        return await self._switch_trigger(task_name, trigger_name, True)

    async def deactivate_trigger(self, task_name: str, trigger_name: str) -> dict[str, Any]:
        return await self._switch_trigger(task_name, trigger_name, False)

    async def _switch_trigger(self, task: str, trigger: str, active: bool) -> dict[str, Any]:
        if not self._allowed.trigger(task, trigger):
            raise HTTPException(403, f"the trigger {task}/{trigger} is not on this app's allow-list")
        await flyte.remote.Trigger.update.aio(name=trigger, task_name=task, active=active)
        return {"task_name": task, "trigger_name": trigger, "active": active}

    async def build_image(
        self,
        base_image: str | None = None,
        pip_packages: list[str] | None = None,
        apt_packages: list[str] | None = None,
        python_version: str | None = None,
        name: str | None = None,
        pre: bool = False,
    ) -> dict[str, Any]:
        """Make an image of the given packages; `python_version` as `3.12`."""
        image = flyte.Image.from_base(base_image) if base_image else _debian(python_version, name)
        image = image.with_apt_packages(*apt_packages) if apt_packages else image
        image = image.with_pip_packages(*pip_packages, pre=pre) if pip_packages else image
        built = await flyte.build.aio(image, wait=False)
        return {"image_name": name, "uri": built.uri}

    async def prefetch_hf_model(self, repo: str) -> None:
        raise HTTPException(501, f"this platform does not fetch models ahead of need; load {repo} in the app itself")

    async def get_prefetch_hf_model(self, name: str) -> dict[str, Any]:
        return await self.get_run(name)

    async def get_prefetch_hf_model_io(self, name: str) -> dict[str, Any]:
        return await self.get_run_io(name)

    async def abort_prefetch_hf_model(self, name: str, reason: str = "Aborted via webhook API") -> dict[str, str]:
        return await self.abort_run(name, reason)


def _described(app: Any) -> dict[str, Any]:
    return {
        "name": app.name,
        "revision": app.revision,
        "endpoint": app.endpoint,
        "url": app.url,
        "is_active": app.is_active(),
        "is_deactivated": app.is_deactivated(),
    }


def _debian(python_version: str | None, name: str | None) -> flyte.Image:
    if python_version is None:
        return flyte.Image.from_debian_base(name=name)
    try:
        major, minor = (int(part) for part in python_version.split("."))
    except ValueError:
        raise HTTPException(422, f"python_version is such as 3.12, not {python_version!r}") from None
    return flyte.Image.from_debian_base(python_version=(major, minor), name=name)


def _asked(url: str, method: str, payload: Any, authorization: str | None) -> Any:
    """The app's answer: its JSON, or its text under `response`."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": authorization} if authorization else {})
    data = json.dumps(payload).encode() if payload is not None else None
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=_CALL_TIMEOUT) as answer:
            text = answer.read(_LARGEST_ANSWER).decode(errors="replace")
    except urllib.error.HTTPError as error:
        raise HTTPException(error.code, f"the app answered: {error.read(2000).decode(errors='replace')}") from None
    except OSError as error:
        raise HTTPException(502, f"the app does not answer: {error}") from None
    try:
        return json.loads(text)
    except ValueError:
        return {"response": text}

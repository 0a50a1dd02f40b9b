"""What becomes of an exception that an app's code lets through: a log entry, a clean answer, and the next request.

Two things keep a failed request from hurting others. The answer is JSON that leads to the log and tells the caller
nothing else. And uvicorn never sees an exception whose answer is complete: it would close the connection then, a
moment too late for the gateway, which may have sent the next request on it.
"""

from __future__ import annotations

import inspect
import logging
import sys
from typing import Any

_log = logging.getLogger("uvicorn.error")


class Contained:
    """An ASGI application whose exceptions end with their request."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete = False

        async def sending(message: Any) -> None:
            nonlocal complete
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if not complete:
                raise
            _log.exception("Exception in ASGI application")


def contained(app: Any, name: str) -> Any:
    """The application `app` of the app `name`, contained; as it is, where it is none of today's ASGI."""
    if not (inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))):  # noqa: B004
        return app
    _answer_in_json(app, name)
    return Contained(app)


def _answer_in_json(app: Any, name: str) -> None:
    """Have a FastAPI application answer 500 as the platform does, unless it has an answer of its own."""
    fastapi = sys.modules.get("fastapi")
    if fastapi is None or not isinstance(app, fastapi.FastAPI):
        return
    if app.debug or {500, Exception} & app.exception_handlers.keys():
        return

    async def failed(request: Any, error: Exception) -> Any:
        from fastapi.responses import JSONResponse

        message = f"the app {name} failed to answer; `flyte get logs {name}` shows why"
        return JSONResponse({"error": {"code": "AppFailedError", "message": message}}, status_code=500)

    app.exception_handlers[Exception] = failed

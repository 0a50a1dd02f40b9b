"""`FastAPIAppEnvironment`: an app that is a FastAPI (or any other ASGI) application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from flyte.app._environment import AppEnvironment, Kind
from flyte.app._settings import Link

if TYPE_CHECKING:
    import fastapi
    import uvicorn


@dataclass(eq=False)
class FastAPIAppEnvironment(AppEnvironment):
    """A FastAPI application as an app.

    The application is not changed or copied: routes may be added, and its `state` filled, before or after this
    environment is created.
    """

    app: fastapi.FastAPI = field(default=cast("Any", None), kw_only=True)
    uvicorn_config: uvicorn.Config | None = field(default=None, kw_only=True)
    """The configuration of uvicorn, apart from address and port."""
    type: str | None = "FastAPI"

    def __post_init__(self) -> None:
        if self.app is None or not callable(self.app):
            raise TypeError(f"{self.name}: app= takes a FastAPI application, not {self.app!r}")
        super().__post_init__()
        if self.command or self.args:
            raise ValueError(f"{self.name}: a FastAPI app has no args= or command=; use flyte.app.AppEnvironment")
        docs = getattr(self.app, "docs_url", None)
        if docs and all(link.path != docs for link in self.links):
            self.links.append(Link(docs, "OpenAPI documentation", is_relative=True))

    @property
    def kind(self) -> Kind:
        return "server" if self._server else "asgi"

    def server(self, func: Callable[..., Any]) -> Any:
        """Serve the application by this function, instead of uvicorn."""
        self._server = func
        return func

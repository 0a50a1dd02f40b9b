"""The paths of pages: a project's runs, tasks and apps, and the API's routes for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flyte.names import path_part
from flyte.wire import DEFAULT_DOMAIN, DEFAULT_PROJECT


@dataclass(frozen=True, slots=True)
class Place:
    """One project and domain."""

    project: str = DEFAULT_PROJECT
    domain: str = DEFAULT_DOMAIN

    def page(self, *parts: str, **query: Any) -> str:
        """`/v2/domain/…/project/…/<parts>?<query>`; None and empty values of the query are left out."""
        return _address(["v2", "domain", self.domain, "project", self.project, *parts], query)

    def api(self, *parts: str, **query: Any) -> str:
        """`/v1/<parts>?<query>` with this project and domain."""
        return _address(["v1", *parts], {"project": self.project, "domain": self.domain, **query})


def _address(parts: list[str], query: dict[str, Any]) -> str:
    path = "/" + "/".join(map(path_part, parts))
    given = {name: value for name, value in query.items() if value not in (None, "", [])}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def local(path: str | None) -> str:
    """The page after signing in: `path` if it is a path of the console, else the first page."""
    is_local = path is not None and path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if is_local and path is not None else "/"

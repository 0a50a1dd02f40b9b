"""One call of the platform's API and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from flyte._client.local_socket import LARGEST


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `repeatable`: making it twice does what making it once does."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    timeout: float = 30
    """Seconds for one try, from connecting to the last byte."""
    fresh: bool = False
    """It carries an idempotency key that was made for it."""

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{urlencode(self.params)}" if self.params else self.path

    @property
    def is_small(self) -> bool:
        """Whether it, and most likely its answer, are small enough for a line."""
        content = self.method == "GET" and self.path.startswith(("/v1/blobs/", "/v1/bundles/"))
        return not content and len(self.body or b"") <= LARGEST


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str = ""
    location: str = ""
    """Where a redirect leads."""


def as_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Query parameters: None is left out, booleans are 0 and 1, lists are joined with commas."""
    shown: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, bool):
            shown[name] = "1" if value else "0"
        elif isinstance(value, list | tuple | set | frozenset):
            if value:
                shown[name] = ",".join(str(item) for item in value)
        elif value is not None:
            shown[name] = str(value)
    return shown

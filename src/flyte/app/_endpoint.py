"""The addresses of deployed apps."""

from __future__ import annotations

from flyte._session import state as _state
from flyte._sync import syncable

_endpoints: dict[tuple[str, str, str, str], str] = {}


def app_endpoint(name: str, project: str | None = None, domain: str | None = None) -> str:
    """The address of a deployed app, fetched from the platform once in this process. Blocks.

    Raises AppNotFoundError, and InitializationError if no platform is configured.
    """
    client = _state.client().scoped(project, domain)
    place = (client.endpoint, client.project, client.domain, name)
    if place not in _endpoints:
        _endpoints[place] = syncable(client.get_app)(name).url
    return _endpoints[place]

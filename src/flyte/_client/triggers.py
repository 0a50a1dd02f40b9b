"""What a client asks of the triggers of a project and domain."""

from __future__ import annotations

from flyte import wire
from flyte._client.client import Client
from flyte.names import path_part


class Triggers:
    def __init__(self, client: Client) -> None:
        self._api = client._api
        self._project, self._domain = client.project, client.domain

    async def list(self, task: str | None = None, limit: int = 100) -> list[wire.Trigger]:
        """Those of one task (full name), or of all."""
        return await self._api.get("/triggers", list[wire.Trigger], task=task, limit=limit)

    async def get(self, task: str, name: str) -> wire.Trigger:
        return await self._api.get(_path(task, name), wire.Trigger)

    async def create(self, task: str, spec: wire.TriggerSpec, version: str | None = None) -> wire.Trigger:
        """Make a trigger of a deployed task, or replace one that was made so."""
        place = {"project": self._project, "domain": self._domain}
        request = wire.TriggerRequest(task=task, version=version, trigger=spec, **place)
        return await self._api.post("/triggers", request, wire.Trigger)

    async def switch(self, task: str, name: str, active: bool) -> wire.Trigger:
        """Activate it, or pause it."""
        return await self._api.post(f"{_path(task, name)}/{'' if active else 'de'}activate", None, wire.Trigger)

    async def delete(self, task: str, name: str) -> None:
        await self._api.send("DELETE", _path(task, name))


def _path(task: str, name: str) -> str:
    return f"/triggers/{path_part(task)}/{path_part(name)}"

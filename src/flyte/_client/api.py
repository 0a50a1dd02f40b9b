"""Calls of `/v1` in one project and domain: `client` says which ones there are, `transport` carries them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from flyte._client.request import Reply, Request, as_params
from flyte._client.transport import Transport

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Api:
    """The routes of `/v1` under one identity; every request names the project and the domain."""

    transport: Transport
    project: str
    domain: str

    def request(self, method: str, path: str, *, timeout: float = 30, **params: Any) -> Request:
        scope = {"project": self.project, "domain": self.domain}
        return Request(method, "/v1" + path, scope | as_params(params), timeout=timeout)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        repeatable: bool = True,
        timeout: float = 30,
        fresh: bool = False,
        **params: Any,
    ) -> Reply:
        """The answer, if it is a success; `body` is sent as JSON. Raises the platform's error."""
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        form = self.request(method, path, **params)
        data = None if body is None else msgspec.json.encode(body)
        whole = Request(method, form.path, form.params, data, sent, repeatable, timeout, fresh)
        return self.transport.check(await self.transport.send(whole))

    async def get(self, path: str, kind: type[T], *, timeout: float = 30, **params: Any) -> T:
        """The record of type `kind` at `path`."""
        return self.transport.decode(await self.send("GET", path, timeout=timeout, **params), kind)

    async def post(self, path: str, body: Any, kind: type[T], **options: Any) -> T:
        return self.transport.decode(await self.send("POST", path, body, **options), kind)

    async def exists(self, path: str) -> bool:
        """Whether the platform has something at `path`. Raises the platform's error, unless that is 404."""
        reply = await self.transport.send(self.request("HEAD", path))
        if reply.status == 404:
            return False
        if reply.status >= 400:  # the answer to a HEAD has no body; the answer to a GET says why
            await self.send("GET", path)
        self.transport.check(reply)
        return True

    async def put(self, path: str, data: bytes, content_type: str) -> None:
        form = self.request("PUT", path)
        headers = {"Content-Type": content_type}
        whole = Request("PUT", form.path, form.params, data, headers, timeout=300)
        self.transport.check(await self.transport.send(whole))

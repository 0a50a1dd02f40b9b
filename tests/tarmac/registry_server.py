"""A registry in this process: the part of the distribution protocol that a push needs, with faults on demand."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Literal

from aiohttp import BasicAuth, web

LOGIN = ("farmer", "s3cret:with-colon")
TOKEN = "short-lived"

Auth = Literal["none", "basic", "token"]


class RegistryServer:
    """`breaks`: how many uploads are broken off. `knows_subjects`: whether it knows what belongs to an image."""

    def __init__(self, auth: Auth = "none", breaks: int = 0, knows_subjects: bool = True) -> None:
        self.auth, self.breaks, self.knows_subjects = auth, breaks, knows_subjects
        self.realm = ""
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads = 0
        self.port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RegistryServer]:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/token", self._token)
        app.router.add_route("*", "/v2/{rest:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.realm = self.realm or f"http://{self.host}/token"
        await web.SockSite(runner, listening).start()
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        if not _logged_in(request):
            return web.Response(status=401)
        assert request.query["scope"] == "repository:farm/cow:pull,push"
        assert request.query["service"] == "the-registry"
        return web.json_response({"token": TOKEN})

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.auth == "basic" and not _logged_in(request):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="farm"'})
        if self.auth == "token" and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            challenge = f'Bearer realm="{self.realm}",service="the-registry",scope="repository:farm/cow:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refusal(request):
            return refusal
        match request.method, request.match_info["rest"].removeprefix("farm/cow/").split("/"):
            case "HEAD", ["blobs", digest]:
                return web.Response(status=200 if digest in self.blobs else 404)
            case "POST", ["blobs", "uploads", ""]:
                return web.Response(status=202, headers={"Location": "/v2/farm/cow/blobs/uploads/1?state=x%2Fy"})
            case "PUT", ["blobs", "uploads", "1"]:
                return await self._upload(request)
            case "PUT", ["manifests", tag]:
                return await self._put_manifest(request, tag)
            case "GET", ["manifests", tag]:
                known = self.manifests.get(tag)
                return web.Response(status=404) if known is None else web.Response(body=known)
        return web.Response(status=405)

    async def _upload(self, request: web.Request) -> web.Response:
        self.uploads += 1
        assert request.query["state"] == "x/y"
        if self.breaks > 0:
            self.breaks -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        data = await request.read()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest != request.query["digest"]:
            return web.Response(status=400, text="DIGEST_INVALID")
        self.blobs[digest] = data
        return web.Response(status=201)

    async def _put_manifest(self, request: web.Request, tag: str) -> web.Response:
        data = await request.read()
        manifest = json.loads(data)
        for one in (manifest["config"], *manifest["layers"]) if "config" in manifest else ():
            if one["digest"] not in self.blobs:
                return web.Response(status=400, text="MANIFEST_BLOB_UNKNOWN")
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.manifests |= {tag: data, digest: data}
        subject = manifest.get("subject", {}).get("digest") if self.knows_subjects else None
        return web.Response(status=201, headers={"OCI-Subject": subject} if subject else {})


def _logged_in(request: web.Request) -> bool:
    try:
        found = BasicAuth.decode(request.headers.get("Authorization", ""))
    except ValueError:
        return False
    return (found.login, found.password) == LOGIN


def login_file(host: str, login: tuple[str, str] = LOGIN) -> str:
    """What `podman login` writes."""
    return json.dumps({"auths": {host: {"auth": base64.b64encode(":".join(login).encode()).decode()}}})

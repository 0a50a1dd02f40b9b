"""Sending an image to a registry, by the distribution protocol: its blobs, and then the manifests that name them.

Credentials are those that `podman login` or `docker login` left on this machine. They go to the registry's own host,
and to the token server that it names, by https; only a registry on this machine is spoken to without.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import aiohttp
import msgspec

from tarmac.hosts import is_loopback
from tarmac.oci import ContainerFailed
from tarmac.oci.layout import INDEX, MANIFEST, Descriptor, Index, Layout, Manifest, read

TRIES = 3
"""How often one blob is sent, where the connection breaks off."""

PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=120)
"""Seconds."""

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reference:
    """HOST/NAME:TAG."""

    host: str
    name: str
    tag: str

    @property
    def is_on_this_machine(self) -> bool:
        return is_loopback(urlsplit(f"//{self.host}").hostname or "")

    @property
    def url(self) -> str:
        return f"{'http' if self.is_on_this_machine else 'https'}://{self.host}/v2/{self.name}/"


def parse(text: str) -> Reference:
    """Raises ContainerFailed for anything but HOST/NAME:TAG or HOST/NAME, which is `latest`."""
    host, slash, rest = text.partition("/")
    name, _, tag = rest.partition(":")
    tag = tag or "latest"
    is_host = "." in host or ":" in host or host == "localhost"
    if not (slash and is_host and _NAME.fullmatch(name) and _TAG.fullmatch(tag)):
        raise ContainerFailed(f"{text!r} does not name an image in a registry; write HOST/NAME:TAG, all in lower case")
    try:
        urlsplit(f"//{host}").port  # noqa: B018
    except ValueError:
        raise ContainerFailed(f"{text!r}: {host!r} is not a host and a port") from None
    return Reference(host, name, tag)


async def push(layout: Layout, image: Descriptor, attached: Descriptor, to: str, tell: Tell) -> str:
    """Send the image and what is attached to it; returns its name with its digest. Raises ContainerFailed."""
    reference = parse(to)
    async with aiohttp.ClientSession(timeout=PATIENCE, trust_env=True) as session:
        target = Registry(session, reference, credentials(reference.host))
        await target.send(layout, image, reference.tag, tell)
        answer = await target.send(layout, attached, attached.digest, tell)
        if "Oci-Subject" not in answer:  # a registry that keeps no account of what belongs to an image
            await target.list_attached(image, attached)
    return f"{reference.host}/{reference.name}@{image.digest}"


class Registry:
    """One repository of a registry. `login`: name and password, where this machine has them."""

    def __init__(self, session: aiohttp.ClientSession, reference: Reference, login: tuple[str, str] | None) -> None:
        self._session = session
        self._reference = reference
        self._login = login
        self._authorization = ""

    async def send(self, layout: Layout, described: Descriptor, tag: str, tell: Tell) -> dict[str, str]:
        """A manifest with all that it names; the headers of the answer."""
        path = layout.path(described.digest)
        manifest = read(path, Manifest)
        for blob in (manifest.config, *manifest.layers):
            await self._send_blob(layout.path(blob.digest), blob, tell)
        return await self._put_manifest(tag, path.read_bytes(), MANIFEST)

    async def _put_manifest(self, tag: str, data: bytes, media_type: str) -> dict[str, str]:
        status, headers, said = await self._call("PUT", f"manifests/{tag}", data=data, media_type=media_type)
        if status not in (200, 201, 202):
            raise self._refused(f"the manifest {tag}", status, said)
        return headers

    async def list_attached(self, image: Descriptor, attached: Descriptor) -> None:
        """Name what belongs to the image under the tag where clients look for it in such a registry."""
        tag = image.digest.replace(":", "-")
        status, _, said = await self._call("GET", f"manifests/{tag}", accept=INDEX)
        old = msgspec.json.decode(said, type=Index).manifests if status == 200 else []
        entry = msgspec.structs.replace(attached, annotations={})
        listed = [*(one for one in old if one.artifact_type != entry.artifact_type), entry]
        index = Index(schema_version=2, media_type=INDEX, manifests=listed)
        await self._put_manifest(tag, msgspec.json.encode(index), INDEX)

    async def _send_blob(self, path: Path, blob: Descriptor, tell: Tell) -> None:
        status, _, _ = await self._call("HEAD", f"blobs/{blob.digest}")
        if status == 200:
            return
        tell(f"sending {blob.size / 2**20:.1f} MiB to {self._reference.host}")
        for left in reversed(range(TRIES)):
            try:
                await self._upload(path, blob)
                return
            except aiohttp.ClientError as error:
                if left == 0:
                    raise ContainerFailed(
                        f"{self._reference.host} broke off the upload of {blob.digest[:19]} {TRIES} times ({error}); "
                        "what it has is kept: try again"
                    ) from None

    async def _upload(self, path: Path, blob: Descriptor) -> None:
        status, headers, said = await self._call("POST", "blobs/uploads/")
        if status != 202 or "Location" not in headers:
            raise self._refused("an upload", status, said)
        place = urljoin(self._reference.url, headers["Location"])
        status, _, said = await self._call("PUT", _with_digest(place, blob.digest), data=path, breaks=True)
        if status != 201:
            raise self._refused(f"the blob {blob.digest[:19]}", status, said)

    async def _call(
        self,
        method: str,
        place: str,
        *,
        data: bytes | Path | None = None,
        media_type: str = "application/octet-stream",
        accept: str = "*/*",
        breaks: bool = False,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request, with a login where the registry asks for one: status, headers and body of the answer.

        With `breaks` a broken connection is the caller's; else it is a ContainerFailed.
        """
        url = urljoin(self._reference.url, place)
        try:
            answer = await self._once(method, url, data, media_type, accept)
            if answer[0] == 401:
                await self._authorize(answer[1].get("Www-Authenticate", ""))
                answer = await self._once(method, url, data, media_type, accept)
        except (aiohttp.ClientError, TimeoutError) as error:
            if breaks and isinstance(error, aiohttp.ClientError):
                raise
            reason = str(error) or type(error).__name__
            raise ContainerFailed(f"the registry {self._reference.host} cannot be reached: {reason}") from None
        if answer[0] in (401, 403):
            raise self._not_allowed()
        return answer

    async def _once(
        self, method: str, url: str, data: bytes | Path | None, media_type: str, accept: str
    ) -> tuple[int, dict[str, str], bytes]:
        headers = {"Accept": accept}
        if self._authorization and urlsplit(url).netloc == self._reference.host:
            headers["Authorization"] = self._authorization
        if data is not None:
            size = os.path.getsize(data) if isinstance(data, Path) else len(data)  # noqa: ASYNC240  a local file
            headers |= {"Content-Type": media_type, "Content-Length": str(size)}
        body = _pieces(data) if isinstance(data, Path) else data
        async with self._session.request(method, url, headers=headers, data=body, allow_redirects=False) as answer:
            return answer.status, {name.title(): value for name, value in answer.headers.items()}, await answer.read()

    async def _authorize(self, challenge: str) -> None:
        """Do as the registry says in `WWW-Authenticate`. Raises ContainerFailed where that is not possible."""
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_PARAMETER.findall(rest))
        if scheme.lower() == "basic" and self._login is not None:
            self._authorization = _basic(self._login)
        elif scheme.lower() == "bearer" and "realm" in asked:
            self._authorization = f"Bearer {await self._token(asked)}"
        else:
            raise self._not_allowed()

    async def _token(self, asked: dict[str, str]) -> str:
        realm = urlsplit(asked["realm"])
        if realm.scheme != "https" and not is_loopback(realm.hostname or ""):
            raise ContainerFailed(
                f"{self._reference.host} names a token server without https ({asked['realm']}): no password goes there"
            )
        query = {"scope": f"repository:{self._reference.name}:pull,push"}
        query |= {name: asked[name] for name in ("service",) if name in asked}
        headers = {"Authorization": _basic(self._login)} if self._login is not None else {}
        async with self._session.get(asked["realm"], params=query, headers=headers) as answer:
            if answer.status in (401, 403):
                raise self._not_allowed()
            said = await answer.read()
        try:
            answered = msgspec.json.decode(said, type=dict[str, Any])
            return str(answered.get("token") or answered["access_token"])
        except (msgspec.MsgspecError, KeyError):
            raise ContainerFailed(
                f"the token server {asked['realm']} answered {answer.status} without a token"
            ) from None

    def _not_allowed(self) -> ContainerFailed:
        host = self._reference.host
        who = "without a login" if self._login is None else f"as {self._login[0]!r}"
        return ContainerFailed(
            f"{host} does not let you push {self._reference.name} {who}; log in with `podman login {host}` or "
            f"`docker login {host}`"
        )

    def _refused(self, what: str, status: int, said: bytes) -> ContainerFailed:
        reason = said.decode(errors="replace").strip()[:500]
        return ContainerFailed(f"{self._reference.host} did not take {what}: HTTP {status} {reason}".rstrip())


async def _pieces(path: Path) -> Any:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, 1024 * 1024):
            yield piece


def _with_digest(place: str, digest: str) -> str:
    parts = urlsplit(place)
    return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query), ("digest", digest)])))


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


# ---------------------------------------------------------------------------------------------------------- credentials


def credentials(host: str) -> tuple[str, str] | None:
    """Name and password for that registry, from the first file that has them. Raises ContainerFailed."""
    for file in _login_files():
        try:
            known = json.loads(file.read_text())
        except OSError:
            continue
        except ValueError:
            raise ContainerFailed(f"{file} is not JSON; log in again, or remove it") from None
        if found := _of_file(known, host):
            return found
    return None


def _login_files() -> Iterator[Path]:
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    yield Path(f"/run/containers/{os.getuid()}/auth.json")
    yield Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def _of_file(known: dict[str, Any], host: str) -> tuple[str, str] | None:
    helper = (known.get("credHelpers") or {}).get(host)
    entry = (known.get("auths") or {}).get(host) or {}
    if helper or (not entry.get("auth") and (helper := known.get("credsStore"))):
        return _helped(helper, host)
    if not entry.get("auth"):
        return None
    user, colon, password = base64.b64decode(entry["auth"]).decode(errors="replace").partition(":")
    return (user, password) if colon else None


def _helped(helper: str, host: str) -> tuple[str, str] | None:
    """What docker's credential helper of that name says; None where it knows nothing."""
    command = [f"docker-credential-{helper}", "get"]
    try:
        done = subprocess.run(command, input=host, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ContainerFailed(
            f"{command[0]}, which keeps the passwords of registries, does not work: {error}"
        ) from None
    if done.returncode != 0:
        return None
    said = json.loads(done.stdout)
    return str(said["Username"]), str(said["Secret"])

"""A process of the platform carries its identity to the apps that ask for one, with nothing said in the user's code.

`httpx.get(env.endpoint)` in a task must work also when the app says `requires_auth=True`. So the HTTP clients that the
process has loaded, or will load, add its key to a request that goes to such an app and has no `Authorization` of its
own. Nothing else is touched: not requests to other places, and not to apps that handle authorization themselves. The
key never is part of a URL, so it does not reach a log.

Each client is met at one method that its users may override too; a version that has no such method is left alone, and
a line on stderr says so.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

HEADER = "Authorization"
_TAUGHT = "__flyte_identity__"


_LEFT_OUT: ContextVar[bool] = ContextVar("identity_left_out", default=False)


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Within it no request carries the identity: somebody else chose where it goes."""
    token = _LEFT_OUT.set(True)
    try:
        yield
    finally:
        _LEFT_OUT.reset(token)


def key_for(url: str) -> str | None:
    """The value of the Authorization header for `url`, if it is an app of this platform that asks for a key."""
    guarded = _guarded(os.environ.get("FLYTE_GUARDED_APPS", ""))
    if not guarded or _LEFT_OUT.get():
        return None
    parts = urlsplit(url)
    if parts.username is not None or parts.netloc not in guarded:
        return None
    key = os.environ.get("FLYTE_API_KEY")
    return f"Bearer {key}" if key else None


@functools.lru_cache(maxsize=8)
def _guarded(text: str) -> frozenset[str]:
    return frozenset(json.loads(text)) if text else frozenset()


def _add(url: str, headers: Any) -> None:
    """Put the key into a mutable mapping of headers, unless it has one."""
    if HEADER not in headers and (value := key_for(url)) is not None:
        headers[HEADER] = value


# ------------------------------------------------------------------------------------------------------- the clients


def _httpx(module: ModuleType) -> None:
    def wrap(send: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(send)
        def sending(client: Any, request: Any, **options: Any) -> Any:
            _add(str(request.url), request.headers)
            return send(client, request, **options)

        return sending

    module.Client.send = wrap(module.Client.send)
    module.AsyncClient.send = wrap(module.AsyncClient.send)


def _requests(module: ModuleType) -> None:
    send = module.Session.send

    @functools.wraps(send)
    def sending(session: Any, request: Any, **options: Any) -> Any:
        _add(request.url, request.headers)
        return send(session, request, **options)

    module.Session.send = sending


def _aiohttp(module: ModuleType) -> None:
    request = module.ClientSession._request

    @functools.wraps(request)
    async def requesting(session: Any, method: str, url: Any, **options: Any) -> Any:
        value = key_for(str(session._build_url(url)))
        headers = session._prepare_headers(options.get("headers"))
        if value is not None and HEADER not in headers and options.get("auth") is None:
            headers[HEADER] = value
            options["headers"] = headers
        return await request(session, method, url, **options)

    module.ClientSession._request = requesting


def _urllib(module: ModuleType) -> None:
    do_open = module.AbstractHTTPHandler.do_open

    @functools.wraps(do_open)
    def opening(handler: Any, http_class: Any, request: Any, **options: Any) -> Any:
        if not request.has_header(HEADER) and (value := key_for(request.full_url)) is not None:
            request.add_unredirected_header(HEADER, value)
        return do_open(handler, http_class, request, **options)

    module.AbstractHTTPHandler.do_open = opening


def _websockets(module: ModuleType) -> None:
    _connecting(module.connect)


def _connecting(connect: Any) -> None:
    init = connect.__init__

    @functools.wraps(init)
    def connecting(self: Any, uri: str, *, additional_headers: Any = None, **options: Any) -> None:
        init(self, uri, additional_headers=_with_key(uri, additional_headers), **options)

    connect.__init__ = connecting


def _blocking_websockets(module: ModuleType) -> None:
    if (reconnect := getattr(module, "reconnect", None)) is not None:  # since 17.1 `connect` is made of it
        _connecting(reconnect)
        return
    connect = module.connect

    @functools.wraps(connect)
    def connecting(uri: str, *, additional_headers: Any = None, **options: Any) -> Any:
        return connect(uri, additional_headers=_with_key(uri, additional_headers), **options)

    vars(module)["connect"] = connecting


def _with_key(url: str, given: Any) -> Any:
    """A mapping or pairs of headers, with the key where it belongs and none is there."""
    value = key_for(url)
    pairs = list(getattr(given, "items", lambda: given or ())())
    if value is None or any(name.lower() == HEADER.lower() for name, _ in pairs):
        return given
    return [*pairs, (HEADER, value)]


CLIENTS: dict[str, Callable[[ModuleType], None]] = {
    "httpx": _httpx,
    "requests": _requests,
    "aiohttp": _aiohttp,
    "urllib.request": _urllib,
    "websockets.asyncio.client": _websockets,
    "websockets.sync.client": _blocking_websockets,
}


# ------------------------------------------------------------------------------------------------------- putting it in


def install() -> None:
    """Have every client of CLIENTS carry this process's identity, those that are loaded already and those to come."""
    for name, teach in CLIENTS.items():
        if (module := sys.modules.get(name)) is not None:
            _teach(module, teach)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _teach(module: ModuleType, teach: Callable[[ModuleType], None]) -> None:
    if getattr(module, _TAUGHT, False):
        return
    try:
        teach(module)
    except AttributeError as error:
        print(
            f"flyte: this version of {module.__name__} cannot carry the process's identity ({error}); "
            "send `Authorization: Bearer $FLYTE_API_KEY` to apps with requires_auth=True yourself",
            file=sys.stderr,
        )
    setattr(module, _TAUGHT, True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the clients as everybody does, and has them taught as soon as they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        teach = CLIENTS.get(fullname)
        if teach is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                spec.loader = _taught(spec.loader, teach)
                return spec
        return None


def _taught(loader: Any, teach: Callable[[ModuleType], None]) -> Any:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        _teach(module, teach)

    loader.exec_module = exec_module
    return loader

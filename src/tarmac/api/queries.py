"""The check of query parameters: a route accepts the parameters that it declares, and no others.

An unknown parameter is most often a misspelled filter, and a list that should have been filtered looks like any other.
So each call below `/v1` with an unknown parameter is refused, for all routes alike.

`project` and `domain` are accepted everywhere: a client sends them with every call, also to routes that ignore them.
"""

from __future__ import annotations

import difflib
import functools
import typing
from collections.abc import Callable
from typing import Any

from litestar import Request
from litestar.params import QueryParameter

from flyte.errors import InvalidInputError

EVERYWHERE = frozenset({"project", "domain"})


def refuse_unknown(request: Request[Any, Any, Any]) -> None:
    """Raise InvalidInputError that names the unknown parameters and the known ones."""
    path, query = request.scope["path"], request.scope["query_string"]
    refuse_nul(path)
    refuse_nul(query.decode("latin-1"))
    if not query or not path.startswith("/v1/") or request.method == "OPTIONS":  # which Litestar answers by itself
        return
    known = parameters(request.route_handler.fn)
    unknown = sorted(request.query_params.keys() - known - EVERYWHERE)
    if unknown:
        raise InvalidInputError(f"{request.method} {path} has no {_told(unknown, known)}")


def refuse_nul(address: str) -> None:
    """Raise InvalidInputError for an address with a NUL character: no name has one, and databases refuse it."""
    if "\0" in address or "%00" in address:
        raise InvalidInputError("the address holds a NUL character, which no name has; leave it out")


@functools.cache
def parameters(route: Callable[..., Any]) -> frozenset[str]:
    """The names of the query parameters that a route's function declares."""
    hints = typing.get_type_hints(route, include_extras=True)
    return frozenset(
        mark.name or name
        for name, hint in hints.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, QueryParameter)
    )


def _told(unknown: list[str], known: frozenset[str]) -> str:
    named = ", ".join(repr(name) for name in unknown)
    near = difflib.get_close_matches(unknown[0], known, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    there = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
    return f"query parameter {named}{meant}; {there}"

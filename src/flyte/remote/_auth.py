"""Headers that calls carry in place of this process's key."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flyte._client.transport import forwarded


@contextlib.contextmanager
def auth_metadata(*headers: tuple[str, str]) -> Iterator[None]:
    """Send these headers with every call in the block and in tasks that it starts: `("authorization", "Bearer …")`.

    For apps that act as their caller, after `flyte.init_passthrough()`. The headers replace this process's key.
    Raises ValueError without any header.
    """
    if not headers:
        raise ValueError("auth_metadata needs at least one (name, value)")
    token = forwarded.set(tuple(headers))
    try:
        yield
    finally:
        forwarded.reset(token)

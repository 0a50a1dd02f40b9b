"""Forms, as browsers submit them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from litestar import Request

from flyte.errors import InvalidInputError, TooLargeError

LARGEST_FORM = 2 * 1024 * 1024
"""Bytes of a form of the console. A larger input is sent by a program."""

_MOST_FIELDS = 1000


async def form(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Field → submitted text; the last one if a field is repeated.

    Raises TooLargeError for too many fields. The size is the route's limit (`request_max_body_size`).
    """
    body = await request.body()
    if body.count(b"&") >= _MOST_FIELDS:  # checked before parsing, which takes fifty times the memory
        raise TooLargeError(f"the form has more than {_MOST_FIELDS:,} fields")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
    except ValueError as error:  # a UnicodeDecodeError is one
        raise InvalidInputError(f"the form is not text in UTF-8: {error}") from None

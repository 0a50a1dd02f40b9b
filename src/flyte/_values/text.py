"""JSON text ⇄ plain data."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from flyte.errors import InvalidInputError


def to_bytes(data: Any) -> bytes:
    """JSON text of plain data, compact."""
    try:
        return msgspec.json.encode(data)
    except (OverflowError, UnicodeEncodeError):  # integers beyond 64 bits, lone surrogates
        return json.dumps(data, separators=(",", ":")).encode()


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def from_bytes(text: bytes | str, name: str = "the value") -> Any:
    """Plain data from JSON text. Raises InvalidInputError where it is none."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        try:
            return json.loads(text, parse_constant=_no_constant)
        except ValueError:
            raise InvalidInputError(f"{name} is not JSON: {error}") from None

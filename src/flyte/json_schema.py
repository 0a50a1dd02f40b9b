"""JSON Schema, as far as everybody who reads one needs it: what a reference leads to, and a choice without null."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Schema = Mapping[str, Any]

LONGEST_CHAIN = 32
"""References that follow each other before they count as a circle."""


def target(reference: str, root: Schema) -> Schema:
    """The part of `root` that a local reference (`#/$defs/Name`) leads to; `{}`, which any value fits, for others."""
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def resolved(schema: Any, root: Schema) -> Schema:
    """`schema`, or what its references lead to; `{}`, which any value fits, for references in a circle."""
    for _ in range(LONGEST_CHAIN):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = target(reference, root)
    return {}


def without_null(options: Iterable[Any]) -> list[Any]:
    """The members of a choice (`anyOf`) other than null."""
    return [option for option in options if not (isinstance(option, Mapping) and option.get("type") == "null")]

"""What a name may look like that somebody gives."""

from __future__ import annotations

import re

from flyte.errors import InvalidInputError

LONGEST_NAME = 100
LONGEST_KEY = 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def check_name(what: str, name: str) -> None:
    """Raise InvalidInputError unless `name` may be a run's name, a version or the like."""
    if len(name) > LONGEST_NAME or not _NAME.match(name):
        raise InvalidInputError(
            f"{name[:LONGEST_NAME]!r} is no {what}; use up to {LONGEST_NAME} letters, digits, '.', '_' and '-', "
            "with a letter or digit first"
        )


def check_key(key: str) -> None:
    """Raise InvalidInputError unless `key` may be an idempotency key."""
    if not key or len(key) > LONGEST_KEY or not key.isprintable():
        raise InvalidInputError(
            f"an Idempotency-Key has 1 to {LONGEST_KEY} printable characters; this one has {len(key)}"
        )

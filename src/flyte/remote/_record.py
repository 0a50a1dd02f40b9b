"""What the classes of things on the platform have in common: each is a record, which can be had as data."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from flyte.remote._io import as_dict, as_json

R = TypeVar("R", bound=msgspec.Struct)


class Record(Generic[R]):
    """One thing in its last known state."""

    _record: R

    def to_dict(self) -> dict[str, Any]:
        return as_dict(self._record)

    def to_json(self) -> str:
        return as_json(self._record)

"""The caller's identity on the platform."""

from __future__ import annotations

from typing import Any

from flyte import wire
from flyte._session import state as _state
from flyte._sync import syncable_classmethod
from flyte.remote._io import as_dict, as_json


class User:
    """The caller's name and kind."""

    def __init__(self, record: wire.Me) -> None:
        self._record = record

    @syncable_classmethod
    @classmethod
    async def get(cls) -> User:
        """The caller of this process. Raises NotAuthenticatedError for an unknown key."""
        return cls(await _state.client().me())

    def subject(self) -> str:
        return self._record.subject

    def name(self) -> str:
        return self._record.subject

    @property
    def kind(self) -> str:
        """`owner`, `key`, `workload` or `anonymous`."""
        return self._record.kind

    def to_dict(self) -> dict[str, Any]:
        return as_dict(self._record)

    def to_json(self) -> str:
        return as_json(self._record)

    def __repr__(self) -> str:
        return f"User(subject={self.subject()!r})"

"""The caller's identity on the platform."""

from __future__ import annotations

from flyte import wire
from flyte._session import state as _state
from flyte._sync import syncable_classmethod
from flyte.remote._record import Record


class User(Record[wire.Me]):
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

    def __repr__(self) -> str:
        return f"User(subject={self.subject()!r})"

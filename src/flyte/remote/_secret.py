"""Secrets of a project and domain. A value is sent to the platform and can never be read back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal

from flyte import rules, wire
from flyte._session import state as _state
from flyte._sync import syncable_classmethod
from flyte.errors import InvalidInputError
from flyte.remote._listing import listing
from flyte.remote._record import Record
from flyte.remote._time_filter import moment

SecretTypes = Literal["regular", "image_pull"]


class Secret(Record[wire.SecretInfo]):
    """A secret's name and times."""

    def __init__(self, record: wire.SecretInfo) -> None:
        self._record = record

    @syncable_classmethod
    @classmethod
    async def create(
        cls, name: str, value: str | bytes, type: SecretTypes = "regular", cluster_pool: str | None = None
    ) -> Secret:
        """Store `value` under `name`; an existing secret gets the new value. Bytes must be UTF-8 text.

        `type` and `cluster_pool` are Flyte's and have no effect here. Raises InvalidInputError.
        """
        if (problem := rules.SECRET_NAME.problem(name)) is not None:
            raise InvalidInputError(str(problem))
        try:
            text = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"the value of {name} is not UTF-8 text; encode it, as base64 for instance"
            ) from None
        return cls(await _state.client().create_secret(name, text))

    @syncable_classmethod
    @classmethod
    async def get(cls, name: str) -> Secret:
        """Raises SecretNotFoundError."""
        return cls(await _state.client().get_secret(name))

    @listing
    @staticmethod
    async def listall(limit: int = 10) -> AsyncIterator[Secret]:
        for record in await _state.client().list_secrets(limit):
            yield Secret(record)

    @syncable_classmethod
    @classmethod
    async def delete(cls, name: str) -> None:
        """Raises SecretNotFoundError."""
        await _state.client().delete_secret(name)

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def type(self) -> SecretTypes:
        return "regular"

    @property
    def created_at(self) -> datetime | None:
        return moment(self._record.created)

    @property
    def updated_at(self) -> datetime | None:
        return moment(self._record.updated)

    def __repr__(self) -> str:
        return f"Secret(name={self.name!r})"

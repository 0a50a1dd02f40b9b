"""A deployed app."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any, Literal

from flyte import wire
from flyte._absent import Absent
from flyte._client.client import Client
from flyte._session import state as _state
from flyte._sync import streamable, syncable, syncable_classmethod
from flyte.errors import InvalidInputError
from flyte.remote._listing import listing
from flyte.remote._record import Record
from flyte.remote._time_filter import moment
from flyte.wire import AppStatus

SWITCH_TIMEOUT = 120.0
"""Seconds that `activate(wait=True)` and `deactivate(wait=True)` wait."""

_SERVES = frozenset({AppStatus.ACTIVE, AppStatus.SLEEPING})
_STOPPED = frozenset({AppStatus.STOPPED})
_GOALS = {"activated": _SERVES, "deactivated": _STOPPED}


class App(Record[wire.App]):
    """An app, in its last known state. Properties do no I/O; methods may, and update the state."""

    def __init__(self, record: wire.App, client: Client) -> None:
        self._record = record
        self._client = client

    @syncable_classmethod
    @classmethod
    async def get(cls, name: str, project: str | None = None, domain: str | None = None) -> App:
        """The app of that name. Raises AppNotFoundError."""
        client = _state.client().scoped(project, domain)
        return cls(await client.get_app(name), client)

    @listing
    @staticmethod
    async def listall(
        created_by_subject: str | None = None,
        sort_by: tuple[str, Literal["asc", "desc"]] | None = None,
        limit: int = 100,
        in_status: Any = None,
        project: str | None = None,
        domain: str | None = None,
    ) -> AsyncIterator[App]:
        """The apps, newest first; `in_status` is one status, or several."""
        client = _state.client().scoped(project, domain)
        wanted = [in_status] if isinstance(in_status, str) else list(in_status or ())
        for record in await client.list_apps(limit):
            if not wanted or record.status in [AppStatus(status) for status in wanted]:
                yield App(record, client)

    @syncable_classmethod
    @classmethod
    async def delete(cls, name: str, project: str | None = None, domain: str | None = None) -> None:
        """Stop the app and remove it. Raises AppNotFoundError."""
        await _state.client().scoped(project, domain).delete_app(name)

    create: Any = Absent("flyte.remote.App")
    replace: Any = Absent("flyte.remote.App")
    update: Any = Absent("flyte.remote.App")

    # --- what is known

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def endpoint(self) -> str:
        """The app's address, without a slash at the end."""
        return self._record.url.rstrip("/")

    @property
    def url(self) -> str:
        """The app's page in the console."""
        return self._record.console

    @property
    def revision(self) -> str:
        return self._record.version

    @property
    def version(self) -> str:
        return self._record.version

    @property
    def status(self) -> str:
        """`deploying`, `active`, `sleeping` (the next request starts it), `stopped` or `failed`."""
        return self._record.status.value

    @property
    def deployment_status(self) -> AppStatus:
        return self._record.status

    @property
    def desired_state(self) -> Literal["active", "stopped"]:
        return self._record.wanted

    @property
    def message(self) -> str:
        return self._record.message

    @property
    def requires_auth(self) -> bool:
        return self._record.requires_auth

    @property
    def created_at(self) -> datetime | None:
        return moment(self._record.created)

    @property
    def replicas(self) -> list[wire.Replica]:
        return list(self._record.replicas)

    def is_active(self) -> bool:
        """Whether requests are answered, by the last known state; a sleeping app wakes for a request."""
        return self._record.status in _SERVES and self._record.wanted == "active"

    def is_deactivated(self) -> bool:
        return self._record.status in _STOPPED

    # --- what asks the platform

    @syncable
    async def sync(self) -> App:
        """Fetch the present state."""
        self._record = await self._client.get_app(self.name)
        return self

    @syncable
    async def activate(self, wait: bool = False) -> App:
        """Start the app. With `wait`, return when it serves; raises RuntimeError if that takes over two minutes."""
        self._record = await self._client.activate_app(self.name, SWITCH_TIMEOUT if wait else None)
        if wait and not self.is_active():
            raise RuntimeError(
                f"the app {self.name} is not active: it is {self.status} ({self.message or 'no reason'})"
            )
        return self

    @syncable
    async def deactivate(self, wait: bool = False) -> App:
        """Stop the app; no request starts it again. With `wait`, return when it has stopped; raises RuntimeError."""
        self._record = await self._client.deactivate_app(self.name, SWITCH_TIMEOUT if wait else None)
        if wait and not self.is_deactivated():
            raise RuntimeError(f"the app {self.name} has not stopped: it is {self.status}")
        return self

    @streamable
    async def watch(self, wait_for: Literal["activated", "deactivated"] = "activated") -> AsyncIterator[App]:
        """The app now and after each change, until it has the requested status. Raises RuntimeError if it fails.

        Raises InvalidInputError for another `wait_for`.
        """
        goal = _GOALS.get(wait_for)
        if goal is None:
            raise InvalidInputError(f"wait_for is {wait_for!r}; it is 'activated' or 'deactivated'")
        async for _ in self._client.app_events(self.name):
            self._record = await self._client.get_app(self.name)
            yield self
            if self._record.status in goal:
                return
            if self._record.status is AppStatus.FAILED:
                raise RuntimeError(f"the app {self.name} failed: {self.message}")

    @streamable
    async def get_logs(
        self, replica_name: str | None = None, max_lines: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        """The lines of its replicas' logs; with `follow` also future ones."""
        async for line in self._client.app_logs(self.name, replica=replica_name, tail=max_lines, follow=follow):
            yield line.text

    @syncable
    async def show_logs(
        self,
        max_lines: int = 30,
        show_ts: bool = False,
        raw: bool = False,
        filter_system: bool = False,
        replica_name: str | None = None,
    ) -> None:
        """Print the last lines of its replicas' logs."""
        async for line in self._client.app_logs(self.name, replica=replica_name, tail=max_lines):
            print(line.text)

    @contextlib.asynccontextmanager
    async def ephemeral_ctx(self) -> AsyncIterator[App]:
        """Run the app for the duration of an `async with` block."""
        await self.activate.aio(wait=True)
        try:
            yield self
        finally:
            await self.deactivate.aio(wait=True)

    @contextlib.contextmanager
    def ephemeral_ctx_sync(self) -> Iterator[App]:
        """Run the app for the duration of a `with` block."""
        self.activate(wait=True)
        try:
            yield self
        finally:
            self.deactivate(wait=True)

    def __repr__(self) -> str:
        return f"App(name={self.name!r}, endpoint={self.endpoint!r}, status={self.status!r})"

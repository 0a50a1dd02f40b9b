"""API keys: made once, shown once, kept as hashes; every change reaches the gateway at once.

When a key was used is noted in memory and written down once a minute at most: a call must not wait for a disk.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from flyte import wire
from flyte.errors import AlreadyExistsError, InvalidInputError, NotFoundError, SystemUnavailableError
from tarmac import checks
from tarmac.auth import OWNER, is_reserved, new_key, subject_of
from tarmac.control.gateway import Gateway
from tarmac.events import Journal
from tarmac.model import subject_of_key
from tarmac.store import Change, Delete, KeyRow, Store

USE_WRITTEN_EVERY = 60.0
"""Seconds between two times that it is written down when keys were used."""


class Keys:
    def __init__(
        self,
        store: Store,
        journal: Journal,
        owner_token: str,
        gateway: Gateway,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._journal = journal
        self._owner = hashlib.sha256(owner_token.encode()).hexdigest()
        self._gateway = gateway
        self._clock = clock
        self._by_digest: dict[str, KeyRow] = {}
        self._names: set[str] = set()
        """Names of keys that are being made."""
        self._going: set[str] = set()
        """Keys (sha256) that are being deleted: nothing is written of them any more, or they would come back."""
        self._unconfirmed: dict[str, KeyRow] = {}
        """Keys (sha256) that are deleted, and that apps may still take: who asks again is told so."""
        self._used: dict[str, float] = {}
        """sha256 of a key → when it was used last, where that is not written down yet."""
        self._written = clock()
        """When `_used` was written down last."""
        self.on_revoked: Callable[[], None] = lambda: None
        """Called when a key was revoked; `by_digest` is without it by then."""
        gateway.on_keys_used = self._callers_used

    @property
    def by_digest(self) -> Mapping[str, KeyRow]:
        """sha256 of the key → the key; a live view for the authenticator."""
        return self._by_digest

    async def restore(self) -> None:
        for row in await self._store.keys():
            self._by_digest[row.digest] = row
        self._tell()

    def _tell(self) -> None:
        callers = {row.digest: subject_of(row) for row in self._by_digest.values()}
        self._gateway.keys_changed({self._owner: OWNER, **callers})

    # ------------------------------------------------------------------ made and revoked

    async def create(self, request: wire.KeyRequest, by: str) -> wire.KeyInfo:
        """A new key; this answer is the only place where it can be read.

        Raises InvalidInputError for a name that cannot be had, AlreadyExistsError for one that is taken.
        """
        checks.check(request)
        name = request.name
        self._check(request)
        self._names.add(name)
        try:
            key = new_key()
            digest = hashlib.sha256(key.encode()).hexdigest()
            row = KeyRow("k" + secrets.token_hex(6), name, digest, self._clock(), None, [])

            def known() -> None:
                self._by_digest[digest] = row
                self._tell()

            event = self._journal.act(subject_of_key(row.id), "created", by)
            await self._journal.write(Change(keys=(row,), events=(event,)), known)
        finally:
            self._names.discard(name)
        return _info(row, key=key)

    def _check(self, request: wire.KeyRequest) -> None:
        if request.scopes:
            raise InvalidInputError(
                "keys have no scopes yet: every key may do everything that the owner may; leave `scopes` out"
            )
        if is_reserved(request.name):
            raise InvalidInputError(
                f"a key cannot be called {request.name!r}: `owner`, `anonymous` and names that start with w- or r- are "
                "the platform's own callers; choose another name"
            )
        if request.name in self._names or any(row.name == request.name for row in self._by_digest.values()):
            raise AlreadyExistsError(
                f"there is an API key {request.name!r}; choose another name, or revoke it with: "
                f"flyte delete api-key {request.name}"
            )

    async def delete(self, name: str, by: str) -> None:
        """Revoke a key, by its id or name; returns when the apps refuse it too.

        Raises NotFoundError, and SystemUnavailableError where the gateway has not confirmed that it refuses the key.
        """
        row = self._find(name)
        if row.digest in self._by_digest:
            await self._forget(row, by)
        if not await self._gateway.confirmed():
            raise SystemUnavailableError(
                f"the key {row.name!r} is deleted and the API refuses it, but the gateway has not confirmed it: until "
                "the gateway is back, apps may still take the key. `flyte status` shows how the gateway is"
            )
        self._unconfirmed.pop(row.digest, None)

    async def _forget(self, row: KeyRow, by: str) -> None:
        def forgotten() -> None:
            self._unconfirmed[row.digest] = row
            self._by_digest.pop(row.digest, None)
            self._used.pop(row.digest, None)
            self._tell()
            self.on_revoked()

        self._going.add(row.digest)
        try:
            event = self._journal.act(subject_of_key(row.id), "deleted", by)
            await self._journal.write(Change(deletes=(Delete("keys", (row.id,)),), events=(event,)), forgotten)
        finally:
            self._going.discard(row.digest)

    def _find(self, name: str) -> KeyRow:
        found = _named(name, self._by_digest) or _named(name, self._unconfirmed)[-1:]
        if not found:
            raise NotFoundError(f"no API key {name!r}; list them with: flyte get api-key")
        if len(found) > 1:  # from before names were unique
            ids = ", ".join(row.id for row in found)
            raise InvalidInputError(f"{len(found)} keys are called {name!r}; delete one by its id: {ids}")
        return found[0]

    # ------------------------------------------------------------------ used

    def used(self, digest: str) -> None:
        """The API was called with this key."""
        self._used[digest] = self._clock()

    def _callers_used(self, frame: wire.KeysUsed) -> None:
        """Apps were called by these subjects."""
        for row in self._by_digest.values():
            if subject_of(row) in frame.callers:
                self.used(row.digest)

    def _seen(self, row: KeyRow) -> KeyRow:
        used = self._used.get(row.digest)
        return row if used is None else replace(row, last_used=max(used, row.last_used or 0.0))

    async def write_use(self) -> None:
        """Write down when keys were used, if it is time for that again."""
        now = self._clock()
        if now - self._written < USE_WRITTEN_EVERY:
            return
        self._written = now
        used = (self._used.keys() & self._by_digest.keys()) - self._going
        rows = [self._seen(self._by_digest[digest]) for digest in used]
        self._used = {}
        if rows:
            self._by_digest.update({row.digest: row for row in rows})
            await self._journal.commit(Change(keys=tuple(rows)))

    async def list(self) -> list[wire.KeyInfo]:
        """The keys, the oldest first; one that the gateway cannot tell apps of says why."""
        rows = sorted(self._by_digest.values(), key=lambda row: row.created)
        why = self._gateway.left_out
        return [_info(self._seen(row), message=why.get(row.digest, "")) for row in rows]


def _named(name: str, keys: Mapping[str, KeyRow]) -> list[KeyRow]:
    """The key with this id, or else those with this name."""
    rows = keys.values()
    return [row for row in rows if row.id == name] or [row for row in rows if row.name == name]


def _info(row: KeyRow, key: str | None = None, message: str = "") -> wire.KeyInfo:
    return wire.KeyInfo(
        id=row.id,
        name=row.name,
        created=row.created,
        last_used=row.last_used,
        scopes=list(row.scopes),
        key=key,
        message=message,
    )

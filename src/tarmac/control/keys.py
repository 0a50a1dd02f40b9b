"""API keys: made once, shown once, kept as hashes; every change reaches the gateway at once."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping

from flyte import wire
from flyte.errors import NotFoundError
from tarmac.auth import new_key
from tarmac.events import Journal
from tarmac.store import Change, Delete, KeyRow, Store


class Keys:
    def __init__(
        self, store: Store, journal: Journal, owner_token: str, changed: Callable[[dict[str, str]], None]
    ) -> None:
        self._store = store
        self._journal = journal
        self._owner = hashlib.sha256(owner_token.encode()).hexdigest()
        self._changed = changed
        self._by_digest: dict[str, KeyRow] = {}

    @property
    def by_digest(self) -> Mapping[str, KeyRow]:
        """sha256 of the key → the key; a live view for whoever authenticates."""
        return self._by_digest

    async def restore(self) -> None:
        for row in await self._store.keys():
            self._by_digest[row.digest] = row
        self._tell()

    def _tell(self) -> None:
        self._changed({self._owner: "owner", **{row.digest: row.name for row in self._by_digest.values()}})

    async def create(self, request: wire.KeyRequest, by: str) -> wire.KeyInfo:
        """A new key; this answer is the only place where it can be read."""
        key = new_key()
        digest = hashlib.sha256(key.encode()).hexdigest()
        row = KeyRow("k" + secrets.token_hex(6), request.name, digest, time.time(), None, request.scopes)

        def known() -> None:
            self._by_digest[digest] = row
            self._tell()

        await self._journal.write(Change(keys=(row,)), known)
        return _info(row, key)

    async def list(self) -> list[wire.KeyInfo]:
        return [_info(row) for row in sorted(self._by_digest.values(), key=lambda row: row.created)]

    async def delete(self, name: str, by: str) -> None:
        """Revoke a key, by its id or name. Raises NotFoundError."""
        found = [row for row in self._by_digest.values() if name in (row.id, row.name)]
        if not found:
            raise NotFoundError(f"no API key {name!r}; list them with: flyte get api-key")

        def forgotten() -> None:
            for row in found:
                self._by_digest.pop(row.digest, None)
            self._tell()

        await self._journal.write(Change(deletes=tuple(Delete("keys", (row.id,)) for row in found)), forgotten)


def _info(row: KeyRow, key: str | None = None) -> wire.KeyInfo:
    return wire.KeyInfo(
        id=row.id, name=row.name, created=row.created, last_used=row.last_used, scopes=list(row.scopes), key=key
    )

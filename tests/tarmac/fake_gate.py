"""Who is calling, for tests of the API: one owner, one key, sessions in memory, codes that work once."""

from __future__ import annotations

import itertools

from flyte.errors import NotAuthenticatedError
from tarmac.api.plane import Principal
from tests.tarmac.fake_control import Caller

OWNER, KEY = "tk_owner", "fk_github"


class FakeGate:
    def __init__(self) -> None:
        self._callers: dict[str, Principal] = {OWNER: Caller("owner", "owner"), KEY: Caller("github", "key")}
        self._sessions: dict[str, Principal] = {}
        self._codes: dict[str, Principal] = {}
        self._numbers = itertools.count(1)

    def authenticate(self, bearer: str | None, cookie: str | None) -> Principal:
        caller = self._callers.get(bearer) if bearer is not None else self._sessions.get(cookie or "")
        if caller is None:
            raise NotAuthenticatedError("send a key: Authorization: Bearer …; the owner's is in ~/.tarmac/token")
        return caller

    def session(self, principal: Principal) -> str:
        session = f"s{next(self._numbers)}"
        self._sessions[session] = principal
        return session

    def login_code(self, subject: str) -> str:
        code = f"c{next(self._numbers)}"
        self._codes[code] = next(caller for caller in self._callers.values() if caller.subject == subject)
        return code

    def redeem(self, code: str) -> Principal:
        if (caller := self._codes.pop(code, None)) is None:
            raise NotAuthenticatedError("this code was used already, or is too old; run `flyte console` again")
        return caller

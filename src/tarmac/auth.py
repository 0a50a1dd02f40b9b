"""Authentication of callers: the owner, an API key, a task or an app, or a browser in which the first two signed in.

The owner has one token, in a file that only the owner can read. API keys are stored as hashes. Tasks, apps and browsers
have *identities*: tokens (JWT, HS256) that the control plane signs, and that the gateway, which has the signing secret,
checks by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, cast

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from flyte.errors import NotAllowedError, NotAuthenticatedError
from tarmac.open_calls import OpenCalls

Kind = Literal["owner", "key", "workload", "anonymous"]

OWNER = "owner"
"""The owner's subject; no other caller ever has it."""

_RESERVED = re.compile(r"(owner|anonymous|[wr]-.*)\Z", re.IGNORECASE | re.DOTALL)
"""Subjects that are not keys: the owner, a caller without a key, and the units `w-…` and `r-…`."""

ISSUER = "tarmac"
SESSION = 12 * 3600.0
"""Seconds for which a browser stays signed in."""

CODE_LIFETIME = 600.0
"""Seconds in which a login code can be used, once."""

_HOW = (
    "send `Authorization: Bearer KEY`; on the platform's machine the key is in the file `token` of its folder "
    "(~/.tarmac/token), elsewhere make one with: flyte create api-key NAME"
)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller; `subject` is stored as the author of what it creates or changes."""

    subject: str
    kind: Kind
    project: str | None = None
    """For a task or an app: the project, and below the domain, to which it belongs."""
    domain: str | None = None
    scopes: tuple[str, ...] = field(default=())
    key: str | None = field(default=None, compare=False)
    """sha256 (hex) of the key that was sent, or with which the browser signed in; None for a task or an app."""
    session: str | None = field(default=None, compare=False)
    """Id of the browser's session; None for a caller who sent the key itself."""
    expires: float | None = field(default=None, compare=False)
    """When the identity of a task or an app expires, in seconds since the epoch."""


class ApiKey(Protocol):
    """The stored record of an API key; the store's KeyRow is one."""

    @property
    def name(self) -> str: ...
    @property
    def scopes(self) -> Sequence[str]: ...


class EndedSessions(Protocol):
    """The sessions that were ended before they expired."""

    def __contains__(self, session: object) -> bool: ...
    def end(self, session: str, expires: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session, as its cookie has it."""

    id: str
    key: str
    """sha256 (hex) of the key with which the browser signed in."""
    expires: float


def is_reserved(name: str) -> bool:
    """Whether a key with this name would look like the owner, an anonymous caller, or a unit of the platform."""
    return _RESERVED.match(name) is not None


def subject_of(key: ApiKey) -> str:
    """The subject of a caller with this key, for the API, for apps and in logs.

    Keys with a reserved name cannot be made any more; the subject of an old one is marked as that of a key.
    """
    return f"key {key.name}" if is_reserved(key.name) else key.name


def signing_secret(master_key: bytes) -> str:
    """The secret that signs identities, as text: the gateway passes it to HAProxy's `jwt_verify`."""
    purpose = b"tarmac identities"  # who has this key learns nothing of the master key, or of what seals secrets
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(master_key).hex()


def new_key() -> str:
    """A new API key. Only its sha256 is stored; the key is shown once, to its creator."""
    return "ak_" + secrets.token_urlsafe(32)


class Identities:
    """Makes and checks the tokens of tasks, apps and browsers."""

    def __init__(self, master_key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = signing_secret(master_key)
        self._clock = clock

    def mint(self, subject: str, kind: Kind, project: str, domain: str, lifetime: float) -> str:
        """An identity for `subject` that is valid for `lifetime` seconds."""
        return self._signed({"sub": subject, "kind": kind, "project": project, "domain": domain}, lifetime)

    def session(self, key: str, lifetime: float = SESSION) -> str:
        """A session for a browser that signed in with `key`, a sha256."""
        return self._signed({"use": "session", "sid": secrets.token_hex(12), "key": key, "sub": "session"}, lifetime)

    def _signed(self, claims: dict[str, str], lifetime: float) -> str:
        now = self._clock()
        import jwt  # not at the top: it takes a seventh of the control plane's start

        times = {"iat": int(now), "exp": int(now + lifetime)}
        return jwt.encode({"iss": ISSUER, **claims, **times}, self._secret, algorithm="HS256")

    def verify(self, token: str) -> Principal | None:
        """The principal of an identity; None if it is forged or expired, or is a session."""
        claims = self._claims(token)
        if claims is None or "use" in claims:
            return None
        return Principal(
            subject=claims["sub"],
            kind=cast("Kind", claims.get("kind", "workload")),
            project=claims.get("project") or None,
            domain=claims.get("domain") or None,
            expires=float(claims["exp"]),
        )

    def verify_session(self, token: str) -> Session | None:
        """The browser's session; None for a token that is forged or expired, or is not a session."""
        claims = self._claims(token)
        if claims is None or claims.get("use") != "session":
            return None
        return Session(str(claims.get("sid")), str(claims.get("key")), float(claims["exp"]))

    def _claims(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that this platform signed and that has not expired; else None."""
        import jwt

        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                issuer=ISSUER,
                options={"require": ["exp", "sub"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return None
        return claims if claims["exp"] > self._clock() else None


class Authenticator:
    """Finds the principal of a request; raises NotAuthenticatedError, whose message says how to get a key.

    `keys` is a live view, sha256 (hex) → key: a deleted key is refused at once, and so are the sessions of browsers
    that signed in with it. `ended` has the sessions that were ended. `used` is called with the sha256 of every key that
    was sent.
    """

    def __init__(
        self,
        owner_token: str,
        identities: Identities,
        keys: Mapping[str, ApiKey],
        ended: EndedSessions,
        used: Callable[[str], None] = lambda key: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner = hashlib.sha256(owner_token.encode()).hexdigest()
        self._identities = identities
        self._keys = keys
        self._ended = ended
        self._used = used
        self._clock = clock
        self._codes: dict[str, tuple[float, str]] = {}
        self.open_calls = OpenCalls(self._counts)

    def authenticate(self, bearer: str | None, cookie: str | None) -> Principal:
        """The principal of the key or, without a key, of the session."""
        if bearer:
            if (found := self._by_key(bearer)) is not None:
                return found
            raise NotAuthenticatedError(f"the platform does not know this key, or it has expired; {_HOW}")
        if cookie:
            if (found := self._by_session(cookie)) is not None:
                return found
            raise NotAuthenticatedError("the session has expired; sign in again, or run: flyte console")
        raise NotAuthenticatedError(f"a key is needed; {_HOW}")

    def _by_key(self, bearer: str) -> Principal | None:
        digest = hashlib.sha256(bearer.encode()).hexdigest()
        return self._holder(digest) or self._identities.verify(bearer)

    def _by_session(self, token: str) -> Principal | None:
        session = self._identities.verify_session(token)
        if session is None or session.id in self._ended:
            return None
        found = self._holder(session.key)
        return None if found is None else replace(found, session=session.id)

    def _holder(self, digest: str) -> Principal | None:
        """The principal of the key with this sha256, or None. A key *named* `owner` is still only a key."""
        if hmac.compare_digest(digest, self._owner):
            return Principal(OWNER, "owner", key=digest)
        if (key := self._keys.get(digest)) is None:
            return None
        self._used(digest)
        return Principal(subject_of(key), "key", scopes=tuple(key.scopes), key=digest)

    def session(self, principal: Principal) -> str:
        """A session for a browser, to be passed to `authenticate` as `cookie`. Raises NotAllowedError."""
        return self._identities.session(_key_of(principal))

    def end_session(self, cookie: str) -> None:
        """Sign out: every copy of the session is refused from now on."""
        if (session := self._identities.verify_session(cookie)) is not None:
            self._ended.end(session.id, session.expires)
            self.open_calls.end_withdrawn()

    def open_call(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """A call that only reads, for as long as the block runs.

        It raises NotAuthenticatedError when the caller's key is revoked meanwhile, or the session signed out.
        """
        return self.open_calls.of(principal)

    def key_revoked(self) -> None:
        """A key was revoked: the open calls that it made are ended."""
        self.open_calls.end_withdrawn()

    def _counts(self, principal: Principal) -> bool:
        if principal.session is not None and principal.session in self._ended:
            return False
        return principal.key is None or principal.key == self._owner or principal.key in self._keys

    def login_code(self, principal: Principal) -> str:
        """A code that `redeem` accepts once, within CODE_LIFETIME. Raises NotAllowedError."""
        key, now = _key_of(principal), self._clock()
        self._codes = {code: known for code, known in self._codes.items() if known[0] > now}
        code = secrets.token_urlsafe(24)
        self._codes[code] = (now + CODE_LIFETIME, key)
        return code

    def redeem(self, code: str) -> Principal:
        """The principal for whom the code was made. Raises NotAuthenticatedError if it was used, or is too old."""
        expires, key = self._codes.pop(code, (0.0, ""))
        found = self._holder(key)
        if found is None or expires <= self._clock():
            raise NotAuthenticatedError("this sign-in link was used or has expired; make another with: flyte console")
        return found


def _key_of(principal: Principal) -> str:
    """The key that signs a browser in. Raises NotAllowedError for a caller without a key, or with a session only."""
    if principal.session is not None:
        raise NotAllowedError("a session cannot sign in for another one; sign in with a key, or run: flyte console")
    if principal.key is None:
        raise NotAllowedError("a task or an app cannot sign a browser in; use the owner's token or an API key")
    return principal.key

"""Who is calling: the owner, an API key, a process of the platform's own, or a browser that one of them signed in.

The owner has one token, in a file only the owner can read. API keys are kept as hashes. Workloads and browsers carry
*identities*: tokens (JWT, HS256) that the control plane signs and that the gateway, which has the signing secret, can
check without asking anybody.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, cast

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from flyte.errors import NotAllowedError, NotAuthenticatedError

Kind = Literal["owner", "key", "workload", "anonymous"]

OWNER = "owner"
"""The owner's subject; nobody else ever has it."""

_RESERVED = re.compile(r"(owner|anonymous|[wr]-.*)\Z", re.IGNORECASE | re.DOTALL)
"""Subjects that are not keys: the owner, a caller without a key, and the units `w-…` and `r-…`."""

ISSUER = "tarmac"
SESSION = 12 * 3600.0
"""Seconds a browser stays signed in."""

CODE_LIFETIME = 600.0
"""Seconds in which a login code can be used, once."""

_HOW = (
    "send `Authorization: Bearer KEY`; on the platform's machine the key is in the file `token` of its folder "
    "(~/.tarmac/token), elsewhere make one with: flyte create api-key NAME"
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling; `subject` is what is noted down as the author of things."""

    subject: str
    kind: Kind
    project: str | None = None
    """For a workload: the only project and domain it belongs to."""
    domain: str | None = None
    scopes: tuple[str, ...] = field(default=())
    key: str | None = field(default=None, compare=False)
    """sha256 (hex) of the key that was sent, or that the browser was signed in with; None for a workload."""
    in_browser: bool = field(default=False, compare=False)
    """Whether a session was sent, and not the key itself."""
    expires: float | None = field(default=None, compare=False)
    """When a workload's identity ends, in seconds since the epoch."""


class ApiKey(Protocol):
    """What is known of an API key; the store's KeyRow is one."""

    @property
    def name(self) -> str: ...
    @property
    def scopes(self) -> Sequence[str]: ...


class EndedSessions(Protocol):
    """The sessions that were signed out before their time."""

    def __contains__(self, session: object) -> bool: ...
    def end(self, session: str, expires: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session, as its cookie tells."""

    id: str
    key: str
    """sha256 (hex) of the key that signed it in."""
    expires: float


def is_reserved(name: str) -> bool:
    """Whether a key of that name would look like the owner, like nobody, or like a unit of the platform."""
    return _RESERVED.match(name) is not None


def subject_of(key: ApiKey) -> str:
    """The subject of whoever sends the key, for the API, for apps and in logs.

    Keys with a reserved name cannot be made any more; one from before is told apart.
    """
    return f"key {key.name}" if is_reserved(key.name) else key.name


def signing_secret(master_key: bytes) -> str:
    """What identities are signed with, as text: the gateway gives it to HAProxy's `jwt_verify`."""
    purpose = b"tarmac identities"  # who has this key learns nothing of the master key, or of what seals secrets
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(master_key).hex()


def new_key() -> str:
    """A new API key. Only its sha256 is kept; the key is shown once, to who made it."""
    return "ak_" + secrets.token_urlsafe(32)


class Identities:
    """Makes and checks the tokens of workloads and browsers."""

    def __init__(self, master_key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = signing_secret(master_key)
        self._clock = clock

    def mint(self, subject: str, kind: Kind, project: str, domain: str, lifetime: float) -> str:
        """An identity for `subject` that is good for `lifetime` seconds."""
        return self._signed({"sub": subject, "kind": kind, "project": project, "domain": domain}, lifetime)

    def session(self, key: str, lifetime: float = SESSION) -> str:
        """A session for a browser that was signed in with `key`, a sha256."""
        return self._signed({"use": "session", "sid": secrets.token_hex(12), "key": key, "sub": "session"}, lifetime)

    def _signed(self, claims: dict[str, str], lifetime: float) -> str:
        now = self._clock()
        import jwt  # not at the top: it takes a seventh of the control plane's start

        times = {"iat": int(now), "exp": int(now + lifetime)}
        return jwt.encode({"iss": ISSUER, **claims, **times}, self._secret, algorithm="HS256")

    def verify(self, token: str) -> Principal | None:
        """Who the identity stands for; None for one that is forged or expired, and for a session."""
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
        """The browser's session; None for one that is forged or expired, and for what is not a session."""
        claims = self._claims(token)
        if claims is None or claims.get("use") != "session":
            return None
        return Session(str(claims.get("sid")), str(claims.get("key")), float(claims["exp"]))

    def _claims(self, token: str) -> dict[str, Any] | None:
        """What a token of ours says that has not expired."""
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
    """Turns what a request carries into a Principal; raises NotAuthenticatedError, and says how to get a key.

    `keys` is a live view, sha256 (hex) → key: a key that is deleted is refused from then on, and so is the session of
    a browser that it signed in. `ended` knows the sessions that were signed out. `used` is called with the sha256 of
    every key that was sent.
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

    def authenticate(self, bearer: str | None, cookie: str | None) -> Principal:
        """Whoever the key or, where there is none, the session stands for."""
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
        return None if found is None else replace(found, in_browser=True)

    def _holder(self, digest: str) -> Principal | None:
        """Who has the key with this sha256; None where there is no such key, or not any more."""
        if hmac.compare_digest(digest, self._owner):
            return Principal(OWNER, "owner", key=digest)
        if (key := self._keys.get(digest)) is None:
            return None
        self._used(digest)
        return Principal(subject_of(key), "key", scopes=tuple(key.scopes), key=digest)

    def session(self, principal: Principal) -> str:
        """A session for a browser: what `authenticate` takes as `cookie`. Raises NotAllowedError."""
        return self._identities.session(_key_of(principal))

    def end_session(self, cookie: str) -> None:
        """Sign out: the session is refused from now on, wherever a copy of it is."""
        if (session := self._identities.verify_session(cookie)) is not None:
            self._ended.end(session.id, session.expires)

    def login_code(self, principal: Principal) -> str:
        """A code that `redeem` takes once, within CODE_LIFETIME. Raises NotAllowedError."""
        key, now = _key_of(principal), self._clock()
        self._codes = {code: known for code, known in self._codes.items() if known[0] > now}
        code = secrets.token_urlsafe(24)
        self._codes[code] = (now + CODE_LIFETIME, key)
        return code

    def redeem(self, code: str) -> Principal:
        """Who the code was made for. Raises NotAuthenticatedError when it was used, or is too old."""
        expires, key = self._codes.pop(code, (0.0, ""))
        found = self._holder(key)
        if found is None or expires <= self._clock():
            raise NotAuthenticatedError("this sign-in link was used or has expired; make another with: flyte console")
        return found


def _key_of(principal: Principal) -> str:
    """The key that signs a browser in. Raises NotAllowedError for who has none, or has it in the browser only."""
    if principal.in_browser:
        raise NotAllowedError("a session cannot sign in for another one; sign in with a key, or run: flyte console")
    if principal.key is None:
        raise NotAllowedError("a task or an app cannot sign a browser in; use the owner's token or an API key")
    return principal.key

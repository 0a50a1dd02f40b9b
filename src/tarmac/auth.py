"""Who is calling: the owner, an API key, a process of the platform's own, or a browser that one of them signed in.

The owner has one token, in a file only the owner can read. API keys are kept as hashes. Workloads and browsers carry
*identities*: tokens (JWT, HS256) that the control plane signs and that the gateway, which has the signing secret, can
check without asking anybody.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from flyte.errors import NotAuthenticatedError

Kind = Literal["owner", "key", "workload", "anonymous"]

OWNER = "owner"
"""The owner's subject; nobody else ever has it."""

ISSUER = "tarmac"
SESSION = 7 * 24 * 3600.0
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


class ApiKey(Protocol):
    """What is known of an API key; the store's KeyRow is one."""

    @property
    def name(self) -> str: ...
    @property
    def scopes(self) -> Sequence[str]: ...


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
        """A token for `subject` that is good for `lifetime` seconds."""
        now = self._clock()
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "kind": kind,
            "project": project,
            "domain": domain,
            "iat": int(now),
            "exp": int(now + lifetime),
        }
        import jwt  # not at the top: it takes a seventh of the control plane's start

        return jwt.encode(claims, self._secret, algorithm="HS256")

    def verify(self, token: str) -> Principal | None:
        """Who the token stands for; None when it is forged, expired, or none of ours."""
        import jwt

        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                issuer=ISSUER,
                options={"require": ["exp", "sub"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return None
        if claims["exp"] <= self._clock():
            return None
        return Principal(
            subject=claims["sub"],
            kind=cast("Kind", claims.get("kind", "workload")),
            project=claims.get("project") or None,
            domain=claims.get("domain") or None,
        )


class Authenticator:
    """Turns what a request carries into a Principal; raises NotAuthenticatedError, and says how to get a key.

    `keys` is a live view, sha256 (hex) → key: a key that is deleted is refused from then on, and so is the session of
    a browser that it signed in.
    """

    def __init__(
        self,
        owner_token: str,
        identities: Identities,
        keys: Mapping[str, ApiKey],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner = hashlib.sha256(owner_token.encode()).digest()
        self._identities = identities
        self._keys = keys
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
        digest = hashlib.sha256(bearer.encode())
        if hmac.compare_digest(digest.digest(), self._owner):
            return Principal(OWNER, "owner")
        if (key := self._keys.get(digest.hexdigest())) is not None:
            return _key_holder(key)
        return self._by_session(bearer)

    def _by_session(self, token: str) -> Principal | None:
        found = self._identities.verify(token)
        return self._still_known(found.subject) if found is not None and found.kind == "key" else found

    def _still_known(self, subject: str) -> Principal | None:
        """The holder of a key as the key is now; None when it was deleted."""
        holders = map(_key_holder, self._keys.values())
        return next((holder for holder in holders if holder.subject == subject), None)

    def session(self, principal: Principal) -> str:
        """A session for a browser: what `authenticate` takes as `cookie`."""
        return self._identities.mint(principal.subject, principal.kind, "", "", SESSION)

    def login_code(self, subject: str) -> str:
        """A code that `redeem` takes once, within CODE_LIFETIME."""
        now = self._clock()
        self._codes = {code: known for code, known in self._codes.items() if known[0] > now}
        code = secrets.token_urlsafe(24)
        self._codes[code] = (now + CODE_LIFETIME, subject)
        return code

    def redeem(self, code: str) -> Principal:
        """Who the code was made for. Raises NotAuthenticatedError when it was used, or is too old."""
        expires, subject = self._codes.pop(code, (0.0, ""))
        found = Principal(OWNER, "owner") if subject == OWNER else self._still_known(subject)
        if found is None or expires <= self._clock():
            raise NotAuthenticatedError("this sign-in link was used or has expired; make another with: flyte console")
        return found


def _key_holder(key: ApiKey) -> Principal:
    """Whoever has the key; one that is called as the owner is does not become the owner."""
    subject = f"key {key.name}" if key.name == OWNER else key.name
    return Principal(subject, "key", scopes=tuple(key.scopes))

"""Who is calling: owner, keys, workloads, browsers; and nobody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest

from flyte.errors import NotAllowedError, NotAuthenticatedError
from tarmac.auth import (
    CODE_LIFETIME,
    SESSION,
    Authenticator,
    Identities,
    Principal,
    new_key,
    signing_secret,
)
from tarmac.store import KeyRow

MASTER = b"m" * 32
OWNER_TOKEN = "tk_owner"


class Ended(dict[str, float]):
    """The sessions that were signed out."""

    def end(self, session: str, expires: float) -> None:
        self[session] = expires


@dataclass
class World:
    """An authenticator whose clock the test sets, and the keys it knows."""

    now: float = 1_700_000_000.0
    keys: dict[str, KeyRow] = field(default_factory=dict)
    ended: Ended = field(default_factory=lambda: Ended())
    used: list[str] = field(default_factory=list)
    identities: Identities = field(init=False)
    authenticator: Authenticator = field(init=False)

    def __post_init__(self) -> None:
        self.identities = Identities(MASTER, clock=lambda: self.now)
        self.authenticator = Authenticator(
            OWNER_TOKEN, self.identities, self.keys, self.ended, self.used.append, clock=lambda: self.now
        )

    def add_key(self, name: str, *scopes: str) -> str:
        key = new_key()
        digest = hashlib.sha256(key.encode()).hexdigest()
        self.keys[digest] = KeyRow("k1", name, digest, scopes=list(scopes))
        return key

    def bearer(self, token: str | None) -> Principal:
        return self.authenticator.authenticate(token, None)

    def cookie(self, session: str | None) -> Principal:
        return self.authenticator.authenticate(None, session)


@pytest.fixture
def world() -> World:
    return World()


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


# --------------------------------------------------------------------------------------------------------- by a key


def test_the_owners_token_is_the_owner(world: World) -> None:
    assert world.bearer(OWNER_TOKEN) == Principal("owner", "owner")


def test_an_api_key_is_its_holder_with_its_scopes(world: World) -> None:
    assert world.bearer(world.add_key("ci", "apps")) == Principal("ci", "key", scopes=("apps",))


def test_keys_are_long_and_never_the_same() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("ak_") and len(key) >= 43 for key in keys)


def test_a_key_that_is_deleted_is_refused_at_once(world: World) -> None:
    key = world.add_key("ci")
    world.keys.clear()
    with pytest.raises(NotAuthenticatedError, match="does not know this key"):
        world.bearer(key)


@pytest.mark.parametrize("token", ["tk_owne", "tk_owner2", "ak_unknown", "a.b.c", "ü", "owner", "Bearer tk_owner"])
def test_an_unknown_key_is_refused_even_with_a_good_session(world: World, token: str) -> None:
    session = world.authenticator.session(world.bearer(OWNER_TOKEN))
    with pytest.raises(NotAuthenticatedError, match="flyte create api-key") as caught:
        world.authenticator.authenticate(token, session)
    assert token not in str(caught.value).split()


@pytest.mark.parametrize("nothing", [None, ""])
def test_who_sends_nothing_is_told_how_to_get_a_key(world: World, nothing: str | None) -> None:
    with pytest.raises(NotAuthenticatedError, match=r"Authorization: Bearer KEY.*token.*flyte create api-key"):
        world.authenticator.authenticate(nothing, nothing)


# ---------------------------------------------------------------------------------------------------- by an identity


def test_a_workloads_identity_says_where_it_belongs(world: World) -> None:
    token = world.identities.mint("w-1", "workload", "shop", "development", 60)
    assert world.bearer(token) == Principal("w-1", "workload", "shop", "development")
    claims = claims_of(token)
    assert (claims["iss"], claims["sub"], claims["kind"]) == ("tarmac", "w-1", "workload")
    assert claims["exp"] - claims["iat"] == 60


def test_an_identity_ends_with_its_lifetime(world: World) -> None:
    token = world.identities.mint("w-1", "workload", "shop", "development", 60)
    world.now += 59
    assert world.bearer(token).subject == "w-1"
    world.now += 1
    with pytest.raises(NotAuthenticatedError, match="expired"):
        world.bearer(token)


def test_the_gateway_can_check_an_identity_with_the_signing_secret_alone(world: World) -> None:
    token = world.identities.mint("w-1", "workload", "shop", "development", 60)
    head, body, signature = token.split(".")
    secret = signing_secret(MASTER)
    expected = hmac.digest(secret.encode(), f"{head}.{body}".encode(), "sha256")
    assert base64.urlsafe_b64decode(signature + "=") == expected
    assert secret.isalnum(), "it is written into a configuration file"
    assert MASTER.hex() not in secret


def forged(**changes: Any) -> str:
    claims = {"iss": "tarmac", "sub": "owner", "kind": "owner", "exp": 4_000_000_000} | changes
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, signing_secret(MASTER), algorithm="HS256")


@pytest.mark.parametrize(
    "token",
    [
        jwt.encode({"iss": "tarmac", "sub": "owner", "kind": "owner", "exp": 4_000_000_000}, "x" * 64, "HS256"),
        jwt.encode({"iss": "tarmac", "sub": "owner", "kind": "owner", "exp": 4_000_000_000}, "", "none"),
        jwt.encode({"iss": "tarmac", "sub": "owner", "exp": 4_000_000_000}, signing_secret(MASTER), "HS512"),
        forged(iss="somebody"),
        forged(iss=None),
        forged(exp=None),
        forged(sub=None),
    ],
    ids=["other secret", "unsigned", "other algorithm", "other issuer", "no issuer", "no end", "no subject"],
)
def test_a_token_that_is_not_ours_is_refused(world: World, token: str) -> None:
    assert world.identities.verify(token) is None
    with pytest.raises(NotAuthenticatedError):
        world.bearer(token)


def test_identities_of_another_platform_are_refused(world: World) -> None:
    token = Identities(b"o" * 32).mint("w-1", "workload", "shop", "development", 1e9)
    with pytest.raises(NotAuthenticatedError):
        world.bearer(token)


# ------------------------------------------------------------------------------------------------------- by a browser


def test_a_session_is_who_signed_in_until_it_expires(world: World) -> None:
    session = world.authenticator.session(world.bearer(OWNER_TOKEN))
    assert world.cookie(session) == Principal("owner", "owner")
    world.now += SESSION
    with pytest.raises(NotAuthenticatedError, match="session has expired"):
        world.cookie(session)


def test_the_session_of_a_key_has_the_keys_scopes_and_ends_with_the_key(world: World) -> None:
    session = world.authenticator.session(world.bearer(world.add_key("ci", "apps")))
    assert world.cookie(session) == Principal("ci", "key", scopes=("apps",))
    world.keys.clear()
    with pytest.raises(NotAuthenticatedError):
        world.cookie(session)
    world.add_key("ci")
    with pytest.raises(NotAuthenticatedError):
        world.cookie(session)


def test_a_session_ends_with_the_owners_token(world: World) -> None:
    session = world.authenticator.session(world.bearer(OWNER_TOKEN))
    after = Authenticator("tk_another", world.identities, world.keys, world.ended)
    with pytest.raises(NotAuthenticatedError, match="session has expired"):
        after.authenticate(None, session)


def test_a_session_that_was_signed_out_is_over_wherever_its_copies_are(world: World) -> None:
    session, other = (world.authenticator.session(world.bearer(OWNER_TOKEN)) for _ in range(2))
    world.authenticator.end_session(session)
    with pytest.raises(NotAuthenticatedError, match="session has expired"):
        world.cookie(session)
    assert world.cookie(other).kind == "owner"


def test_signing_out_without_a_session_of_ours_changes_nothing(world: World) -> None:
    for session in ("", "x", forged(use="session", sid="s", key="k", iss="somebody")):
        world.authenticator.end_session(session)
    assert world.ended == {}


def test_a_session_is_not_a_key_and_cannot_make_another_session(world: World) -> None:
    session = world.authenticator.session(world.bearer(OWNER_TOKEN))
    with pytest.raises(NotAuthenticatedError):
        world.bearer(session)
    for renew in (world.authenticator.session, world.authenticator.login_code):
        with pytest.raises(NotAllowedError, match="a session cannot sign in for another one"):
            renew(world.cookie(session))


def test_an_identity_is_not_a_session(world: World) -> None:
    with pytest.raises(NotAuthenticatedError):
        world.cookie(world.identities.mint("w-1", "workload", "shop", "development", 60))


def test_a_task_or_an_app_cannot_sign_a_browser_in(world: World) -> None:
    unit = world.bearer(world.identities.mint("w-1", "workload", "shop", "development", 60))
    for sign_in in (world.authenticator.session, world.authenticator.login_code):
        with pytest.raises(NotAllowedError, match="a task or an app cannot sign a browser in"):
            sign_in(unit)


@pytest.mark.parametrize("session", ["", "x", OWNER_TOKEN])
def test_what_is_no_session_is_refused(world: World, session: str) -> None:
    with pytest.raises(NotAuthenticatedError):
        world.cookie(session)


def test_a_login_code_signs_in_once(world: World) -> None:
    code = world.authenticator.login_code(world.bearer(OWNER_TOKEN))
    assert world.authenticator.redeem(code) == Principal("owner", "owner")
    with pytest.raises(NotAuthenticatedError, match="flyte console"):
        world.authenticator.redeem(code)


def test_a_login_code_expires(world: World) -> None:
    codes = [world.authenticator.login_code(world.bearer(OWNER_TOKEN)) for _ in range(2)]
    world.now += CODE_LIFETIME - 1
    assert world.authenticator.redeem(codes[0]).kind == "owner"
    world.now += 1
    with pytest.raises(NotAuthenticatedError, match="expired"):
        world.authenticator.redeem(codes[1])


def test_a_login_code_of_a_key_is_the_key_and_no_longer_good_than_it(world: World) -> None:
    holder = world.bearer(world.add_key("ci", "apps"))
    codes = [world.authenticator.login_code(holder) for _ in range(2)]
    assert world.authenticator.redeem(codes[0]) == Principal("ci", "key", scopes=("apps",))
    world.keys.clear()
    with pytest.raises(NotAuthenticatedError):
        world.authenticator.redeem(codes[1])


@pytest.mark.parametrize("name", ["owner", "OWNER", "anonymous", "w-1", "r-42"])
def test_a_key_from_before_names_were_reserved_is_nobody_else(world: World, name: str) -> None:
    holder = world.bearer(world.add_key(name))
    assert holder == Principal(f"key {name}", "key")
    assert world.authenticator.redeem(world.authenticator.login_code(holder)) == holder
    assert world.cookie(world.authenticator.session(holder)) == holder


def test_that_a_key_is_used_is_noted_also_by_its_sessions(world: World) -> None:
    holder = world.bearer(world.add_key("ci"))
    world.cookie(world.authenticator.session(holder))
    world.bearer(OWNER_TOKEN)
    assert world.used == [holder.key, holder.key]

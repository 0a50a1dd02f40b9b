"""The gateway's own answers to clients, in the form of every error of the API (`wire.ErrorBody`).

Some are texts in HAProxy's configuration; values of the request stand in them as HAProxy variables, so they contain no
other `%`. The rest are the controller's answers to held requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from flyte.wire import ErrorBody, ErrorInfo

_APP = "%[var(txn.app),field(3,/)]"
"""The app's bare name, where a request belongs to one."""

_HOST = "%[req.hdr(host),json(utf8s)]"


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal: `code` is the name of an error of `flyte.errors`, `retry_after` seconds or None."""

    status: int
    code: str
    message: str
    kind: Literal["user", "system"] = "user"
    retry_after: int | None = None

    @property
    def body(self) -> str:
        info = ErrorInfo(code=self.code, message=self.message, kind=self.kind)
        return msgspec.json.encode(ErrorBody(error=info)).decode()

    @property
    def line(self) -> bytes:
        """The answer as hold.lua reads it."""
        return f"{self.status} {self.retry_after or 0} {self.body}\n".encode()


def _unavailable(message: str, status: int = 503, retry_after: int | None = 1) -> Answer:
    return Answer(status, "SystemUnavailableError", message, "system", retry_after)


def not_active(app: str) -> Answer:
    message = f"the app {app} is stopped; `flyte update app {app} --activate` starts it"
    return Answer(503, "SystemUnavailableError", message, retry_after=60)


# ------------------------------------------------------------------------------------------------- said by HAProxy

NO_APP_HERE = Answer(
    404, "AppNotFoundError", f"no app is served at {_HOST}; `flyte get app` lists the apps and their addresses"
)
NO_KEY = Answer(
    401,
    "NotAuthenticatedError",
    f"the app {_APP} wants a key: send it as `Authorization: Bearer KEY`; `flyte create api-key NAME` makes one",
)
NOT_OUR_NAME = Answer(
    421,
    "NotAllowedError",
    f"the port of this app does not answer to the name {_HOST}; use an address, localhost or the app's own name, or "
    "let the platform's owner set TARMAC_APP_HOSTS to this name",
)
SIGN_IN_TOO_LARGE = Answer(413, "TooLargeError", "the form that signs in is larger than 8 KiB; a key is much shorter")
DOOR_CROWDED = _unavailable("too many connections to the front door are open; try again")
BODY_LATE = Answer(408, "InvalidInputError", "the rest of the request did not arrive in time")
STOPPED = not_active(_APP)
APP_AWAY = _unavailable(f"no replica of the app {_APP} takes the request; try again")
APP_SILENT = _unavailable(
    f"the app {_APP} did not answer within the request timeout that its environment declares", 504, None
)
APP_BROKE_OFF = _unavailable(
    f"the replica of the app {_APP} ended the connection before it answered, or sent an answer that is not valid HTTP "
    "or has more than 31 KiB of headers; `flyte get logs` shows why",
    502,
)
CONTROL_AWAY = _unavailable("the control plane is restarting; try again")
CONTROL_SILENT = _unavailable("the control plane did not answer in time; try again", 504)
CONTROL_BROKE_OFF = _unavailable("the control plane went away before it answered; try again", 502)


# ------------------------------------------------------------------------------ said by the controller to held requests


def not_awake(app: str, message: str) -> Answer:
    """The app could not be woken; `message` is the control plane's reason."""
    return _unavailable(message or f"the app {app} could not be started; `flyte get logs` shows why", retry_after=5)


def slow_to_wake(app: str, seconds: float) -> Answer:
    message = f"the app {app} has no ready replica after {seconds:g} s; it may be starting still: try again"
    return _unavailable(message, retry_after=5)


def crowded(app: str, limit: int) -> Answer:
    return _unavailable(f"{limit:,} requests wait already for the app {app} to start; try again", retry_after=5)


def unknown(app: str) -> Answer:
    return Answer(404, "AppNotFoundError", f"there is no app {app}; `flyte get app` lists the apps")

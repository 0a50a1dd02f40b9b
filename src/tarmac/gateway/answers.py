"""What the gateway itself says to a client, in the shape of every error of the API (`wire.ErrorBody`).

A text is made once, when the configuration is rendered; what only the request knows stands in it as an HAProxy
variable. So these texts hold no `%` and no quotation marks of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from flyte.wire import ErrorBody, ErrorInfo

APP = "%[var(txn.app),field(3,/)]"
"""The app's bare name, where a request belongs to one."""


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
    def line(self) -> str:
        """The answer as hold.lua reads it."""
        return f"{self.status} {self.retry_after or 0} {self.body}\n"


NO_APP_HERE = Answer(
    404, "AppNotFoundError", "no app is served at %[req.hdr(host),json(utf8s)]; `flyte get app` lists the apps and their addresses"
)
NO_KEY = Answer(
    401,
    "NotAuthenticatedError",
    f"the app {APP} wants a key: send it as `Authorization: Bearer KEY`; `flyte create api-key NAME` makes one",
)
STOPPED = Answer(
    503, "SystemUnavailableError", f"the app {APP} is stopped; `flyte update app {APP} --activate` starts it", retry_after=60
)
CONTROL_AWAY = Answer(
    503, "SystemUnavailableError", "the control plane is restarting; try again", kind="system", retry_after=1
)
CONTROL_SILENT = Answer(504, "SystemUnavailableError", "the control plane did not answer in time; try again", kind="system")
CONTROL_BROKE_OFF = Answer(
    502, "SystemUnavailableError", "the control plane went away before it answered; try again", kind="system", retry_after=1
)
APP_AWAY = Answer(
    503, "SystemUnavailableError", f"no replica of the app {APP} takes the request; try again", kind="system", retry_after=1
)
APP_SILENT = Answer(
    504,
    "SystemUnavailableError",
    f"the app {APP} did not answer within its request timeout (Timeouts in its environment sets it)",
)
APP_BROKE_OFF = Answer(
    502,
    "SystemUnavailableError",
    f"the replica of the app {APP} ended the connection before it answered; `flyte get logs` shows why",
    kind="system",
)


def not_awake(app: str, message: str) -> Answer:
    """The app could not be woken; `message` is the control plane's, and says why."""
    return Answer(503, "SystemUnavailableError", message or f"the app {app!r} could not be started", "system", 5)


def slow_to_wake(app: str, seconds: float) -> Answer:
    message = f"the app {app!r} has no ready replica after {seconds:g} s; it may be starting still: try again"
    return Answer(503, "SystemUnavailableError", message, "system", 5)


def crowded(app: str, limit: int) -> Answer:
    message = f"{limit:,} requests wait already for the app {app!r} to start; try again"
    return Answer(503, "SystemUnavailableError", message, "system", 5)


def not_active(app: str) -> Answer:
    return Answer(
        503,
        "SystemUnavailableError",
        f"the app {app!r} is stopped; `flyte update app {app} --activate` starts it",
        retry_after=60,
    )


def unknown(app: str) -> Answer:
    return Answer(404, "AppNotFoundError", f"there is no app {app!r}; `flyte get app` lists the apps")

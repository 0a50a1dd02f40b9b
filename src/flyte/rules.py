"""The rules for every name, text, number and collection that crosses the wire, each written down once.

The fields of `flyte.wire` name their rules (`name: AppName`). The SDK applies a rule where something is declared
(`APP_NAME.check(name)`); the platform applies all rules of a record or frame where it comes in (`tarmac.checks`).
Decoding applies none of them: what was stored before a rule existed can still be read.

A field that names no rule has the rule of its type: text holds no NUL, numbers are finite and fit into 64 bits,
collections have a size, and free JSON is not nested too deeply.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec

NESTING = 256
"""Levels of lists and objects in each other, in JSON that crosses the wire."""

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that breaks its rule, and where it stands in the record that was checked."""

    what: str
    shown: str
    form: str
    place: str = ""

    def under(self, step: str) -> Problem:
        """The same, seen from one level further out."""
        joint = "" if not self.place or self.place[0] == "[" else "."
        return replace(self, place=f"{step}{joint}{self.place}")

    def __str__(self) -> str:
        place = f" at {self.place}" if self.place else ""
        return f"{self.what}{self.shown and ' ' + self.shown}{place} must {self.form}"


@dataclass(frozen=True, slots=True)
class Text:
    """A rule for text."""

    what: str
    form: str
    """What completes the sentence `WHAT … must FORM`."""
    longest: int
    pattern: re.Pattern[str] | None = None
    unit: Literal["characters", "bytes"] = "characters"
    """What `longest` counts."""
    may_hold_nul: bool = False

    def problem(self, value: str) -> Problem | None:
        """What is wrong with the value, or None."""
        if len(value) > self.longest or ("\0" in value and not self.may_hold_nul):
            return Problem(self.what, shown(value), self.form)
        if self.pattern is not None and self.pattern.fullmatch(value) is None:
            return Problem(self.what, shown(value), self.form)
        return None if value.isascii() else self._problem_of_unicode(value)

    def _problem_of_unicode(self, value: str) -> Problem | None:
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            return Problem(self.what, shown(value), "be Unicode text, without halves of surrogate pairs")
        return Problem(self.what, shown(value), self.form) if self.unit == "bytes" and size > self.longest else None

    def check(self, value: str) -> None:
        """Raise ValueError that says what is allowed, unless the value is."""
        _check(self, value)


@dataclass(frozen=True, slots=True)
class Number:
    """A rule for a number."""

    what: str
    least: float
    most: float
    excludes_least: bool = False

    @property
    def form(self) -> str:
        """What completes the sentence `WHAT … must FORM`."""
        if self.excludes_least:
            return f"be more than {self.least:,} and at most {self.most:,}"
        return f"be from {self.least:,} to {self.most:,}"

    def problem(self, value: float) -> Problem | None:
        """What is wrong with the value, or None."""
        if self.least <= value <= self.most and not (self.excludes_least and value == self.least):
            return None  # NaN compares false, and is refused
        return Problem(self.what, shown(value), self.form)

    def check(self, value: float) -> None:
        """Raise ValueError that says what is allowed, unless the value is."""
        _check(self, value)


@dataclass(frozen=True, slots=True)
class Size:
    """A rule for how much a list or mapping holds."""

    what: str
    most: int

    @property
    def form(self) -> str:
        return f"be at most {self.most:,}"

    def problem(self, value: Any) -> Problem | None:
        return None if len(value) <= self.most else Problem(f"number of {self.what}", f"{len(value):,}", self.form)


@dataclass(frozen=True, slots=True)
class Json:
    """A rule for JSON: as text (`bytes`, `Raw`), or decoded already."""

    what: str
    form: str = f"be JSON whose lists and objects are nested at most {NESTING} deep"

    def problem(self, value: Any) -> Problem | None:
        """What is wrong with the value, or None."""
        if isinstance(value, bytes | msgspec.Raw):
            return self._problem_of_text(bytes(value))
        return None if _is_plain(value) else Problem(self.what, "", self.form)

    def _problem_of_text(self, text: bytes) -> Problem | None:
        try:
            decoded = msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            return Problem(self.what, shown(text[:_SHOWN].decode(errors="replace")), self.form)
        if text.count(b"[") + text.count(b"{") > NESTING and not _is_plain(decoded):
            return Problem(self.what, "", self.form)
        return None


Rule = Text | Number | Size | Json


def _check(rule: Any, value: Any) -> None:
    if (found := rule.problem(value)) is not None:
        raise ValueError(str(found))


def shown(value: Any) -> str:
    """The value in one short line."""
    text = repr(value[: 2 * _SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _is_plain(value: Any) -> bool:
    """Whether decoded data can be written as JSON again, and is not nested too deeply."""
    level, plain = [value], (str, int, float, bool, types.NoneType)
    for _ in range(NESTING):
        inner: list[Any] = []
        for each in level:
            if type(each) is dict:
                if not all(type(key) is str for key in each):
                    return False
                inner += each.values()
            elif type(each) is list:
                inner += each
            elif type(each) not in plain or (type(each) is float and not math.isfinite(each)):
                return False
        if not inner:
            return True
        level = inner
    return all(type(each) in plain for each in level)


# ----------------------------------------------------------------------------------------------------- names and texts

_WORDS = r"[a-z0-9]+([_-][a-z0-9]+)*"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME_FORM = "be 1 to 100 letters, digits, '.', '_' and '-', with a letter or digit first"
_DNS_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_UNSEEN = "\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u00ad\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff"
"""Control characters, and those that change how the rest of a line is shown or cannot be seen at all."""

_VISIBLE = re.compile(rf"[^\s{_UNSEEN}]([^{_UNSEEN}]*[^\s{_UNSEEN}])?")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+")

PROJECT = Text("project", _NAME_FORM, 100, _NAME)
DOMAIN = Text("domain", _NAME_FORM, 100, _NAME)
VERSION = Text("version", _NAME_FORM, 100, _NAME)
RUN_NAME = Text("run name", _NAME_FORM, 100, _NAME)
UNIT = Text("process name", _NAME_FORM, 100, _NAME)
ENVIRONMENT_NAME = Text(
    "environment name",
    "be in snake_case or kebab-case format: 1 to 100 lower-case letters and digits, in words separated by '_' or '-'",
    100,
    re.compile(_WORDS),
)
APP_NAME = Text(
    "app name",
    "consist of lower case letters, digits and '-' between them, at most 63 characters",
    63,
    re.compile(r"[a-z0-9]+(-[a-z0-9]+)*"),
)
APP_PATH = Text("app", "be PROJECT/DOMAIN/NAME", 300, re.compile(r"[^/\x00-\x1f]+/[^/\x00-\x1f]+/[^/\x00-\x1f]+"))
TASK_NAME = Text(
    "task name",
    "be 1 to 300 letters, digits, '.', '_', '-', '<' and '>', with a letter, digit or '_' first",
    300,
    re.compile(r"\w[\w.<>-]*"),
)
ENTRY = Text(
    "entry", "be `module:variable`, at most 500 characters", 500, re.compile(r"[^\s:\x00-\x1f]+:[^\s:\x00-\x1f]+")
)
APP_ENTRY = Text(
    "entry",
    "be empty or `module:variable`, at most 500 characters",
    500,
    re.compile(r"([^\s:\x00-\x1f]+:[^\s:\x00-\x1f]+)?"),
)
SECRET_NAME = Text("secret name", "be 1 to 200 letters, digits, '-' and '_'", 200, re.compile(r"[-a-zA-Z0-9_]+"))
KEY_NAME = Text("API key's name", "be 1 to 100 printable characters, without spaces at its ends", 100, _VISIBLE)
IDEMPOTENCY_KEY = Text("idempotency key", "be 1 to 200 printable characters", 200, _PRINTABLE)
VARIABLE = Text(
    "environment variable",
    "have a name of 1 to 200 characters, without '=', spaces and control characters",
    200,
    re.compile(r"[^=\s\x00-\x1f\x7f]+"),
)
VARIABLE_VALUE = Text(
    "environment variable's value",
    "be at most 100,000 bytes of text without a NUL character",
    100_000,
    None,
    "bytes",
)
SECRET_VALUE = Text(
    "secret's value", "be at most 100,000 bytes of text without a NUL character", 100_000, None, "bytes"
)
PARAMETER_NAME = Text(
    "parameter name",
    "be 1 to 100 letters, digits, '_' and '-', with a letter or '_' first",
    100,
    re.compile(r"[A-Za-z_][A-Za-z0-9_-]*"),
)
ARGUMENT = Text("argument", "be at most 100,000 bytes of text without a NUL character", 100_000, None, "bytes")
LABEL_KEY = Text(
    "label key",
    "be 1 to 100 printable characters, without '=' and ','",
    100,
    re.compile(r"[^=,\x00-\x1f\x7f-\x9f\u2028\u2029]+"),
)
LABEL_VALUE = Text(
    "label value",
    "be at most 250 characters, without ',' and control characters",
    250,
    re.compile(r"[^,\x00-\x1f\x7f-\x9f\u2028\u2029]*"),
)
TRIGGER_NAME = Text("trigger name", _NAME_FORM, 100, _NAME)
CONTEXT_KEY = Text("custom context key", "be 1 to 200 printable characters", 200, _PRINTABLE)
HOST = Text(
    "host name",
    "be at most 253 letters, digits, '-' and '.', as in a web address",
    253,
    re.compile(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"),
)
ADDRESS = Text(
    "address",
    "be empty or HOST:PORT",
    300,
    re.compile(r"((?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})?"),
)
URL_PATH = Text(
    "path", "begin with '/', and be at most 1,000 characters without spaces", 1_000, re.compile(r"/[^\s\x00-\x1f\x7f]*")
)
LINK_URI = Text(
    "address of a link",
    "be http:// or https://, without spaces, and at most 4,000 characters",
    4_000,
    re.compile(r"https?://[^\s\x00-\x1f\x7f]+"),
)
DIGEST = Text("digest", "be the 64 hex digits of a sha256", 64, re.compile(r"[0-9a-f]{64}"))
SECRETS_FOLDER = "/etc/flyte/secrets"
"""Where a process finds the secrets that its environment mounts, a file each."""

SECRET_MOUNT = Text("secret's mount", f"be {SECRETS_FOLDER}", len(SECRETS_FOLDER), re.compile(SECRETS_FOLDER))
FOLDER = Text("path", "be at most 4,096 bytes of text without a NUL character", 4_096, None, "bytes")
LINE = Text("text", "be at most 1,000 characters, without a NUL character", 1_000)
REQUIREMENT = Text(
    "requirement",
    "be one line of at most 100,000 characters, without control characters",
    100_000,
    re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*"),
)
TEXT = Text("text", "be at most 1,000,000 characters, without a NUL character", 1_000_000)
PRINTED = Text("text", "be at most 4,000,000 characters", 4_000_000, may_hold_nul=True)
"""What a program printed or raised: it may hold anything, and is cleaned where it is stored."""


def check_variables(variables: Mapping[str, str], where: str) -> None:
    """Raise ValueError that says where for environment variables that no process could have."""
    _check_mapping(variables, VARIABLE, VARIABLE_VALUE, where)


def check_labels(labels: Mapping[str, str], where: str) -> None:
    """Raise ValueError that says where for labels that are not valid."""
    _check_mapping(labels, LABEL_KEY, LABEL_VALUE, where)


def _check_mapping(mapping: Mapping[str, str], of_key: Text, of_value: Text, where: str) -> None:
    for key, value in mapping.items():
        if (found := of_key.problem(key) or of_value.problem(value)) is not None:
            raise ValueError(str(found.under(where)))


# --------------------------------------------------------------------------------------------- numbers, collections

_LONGEST = 315_360_000
"""Seconds of ten years."""

FLOAT = Number("number", -1.7e308, 1.7e308)
INTEGER = Number("number", -(2**63), 2**63 - 1)
POSITION = Number("number", 0, 2**63 - 1)
COUNT = Number("number", 0, 2**31 - 1)
MOMENT = Number("time in seconds since 1970", 0, 253_402_300_799)
DURATION = Number("number of seconds", 0, _LONGEST)
POSITIVE_DURATION = Number("number of seconds", 0, _LONGEST, excludes_least=True)
REQUEST_TIMEOUT = Number("request timeout in seconds", 0, 3_600, excludes_least=True)
RETRIES = Number("number of retries", 0, 1_000_000)
FACTOR = Number("factor", 1, 1_000)
MIN_REPLICAS = Number("min_replicas", 0, 1_000)
MAX_REPLICAS = Number("max_replicas", 1, 1_000)
CONCURRENCY = Number("concurrency", 1, 100_000)
REQUEST_RATE = Number("request rate", 1, 1_000_000)
ACTION_CONCURRENCY = Number("max_action_concurrency", 0, 100_000)
MINUTES = Number("number of minutes", 0, 5_256_000)
PORT = Number("port", 1, 65_535)
CORES = Number("number of cores", 0, 1_000_000)
BYTES = Number("number of bytes", 0, 2**62)
PYTHON_VERSION = Number("part of a Python version", 0, 999)

ITEMS = Size("items", 100_000)
LABELS = Size("labels", 100)
VARIABLES = Size("environment variables", 1_000)
SPECS = Size("tasks or apps", 10_000)
JSON = Json("JSON value")

# ----------------------------------------------------------------------------------- the rules as annotations of fields

ProjectName = Annotated[str, PROJECT]
DomainName = Annotated[str, DOMAIN]
VersionName = Annotated[str, VERSION]
RunName = Annotated[str, RUN_NAME]
UnitName = Annotated[str, UNIT]
EnvironmentName = Annotated[str, ENVIRONMENT_NAME]
AppName = Annotated[str, APP_NAME]
AppPath = Annotated[str, APP_PATH]
TaskName = Annotated[str, TASK_NAME]
SecretName = Annotated[str, SECRET_NAME]
Digest = Annotated[str, DIGEST]
Folder = Annotated[str, FOLDER]
Host = Annotated[str, HOST]
Line = Annotated[str, LINE]
Requirement = Annotated[str, REQUIREMENT]
Printed = Annotated[str, PRINTED]
Variables = Annotated[dict[Annotated[str, VARIABLE], Annotated[str, VARIABLE_VALUE]], VARIABLES]
Labels = Annotated[dict[Annotated[str, LABEL_KEY], Annotated[str, LABEL_VALUE]], LABELS]
Context = Annotated[dict[Annotated[str, CONTEXT_KEY], Annotated[str, TEXT]], LABELS]
Count = Annotated[int, COUNT]
Position = Annotated[int, POSITION]
Moment = Annotated[float, MOMENT]
Duration = Annotated[float, DURATION]
JsonText = Annotated[bytes, JSON]


_AGO = re.compile(r"(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>s|sec|m|min|h|d|w)(?:\s*ago)?")
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def moment(text: str, now: float) -> float:
    """The time that `text` names, in seconds since 1970.

    It is ISO text such as `2026-01-31T12:00` (local time, unless it says which), or relative to `now`: `30s`, `10m`,
    `1h`, `2d`, `1w` for as long ago, `now`, `today`, `yesterday`. Raises ValueError for anything else.
    """
    word = text.strip().lower()
    if found := _AGO.fullmatch(word):
        return now - float(found["count"]) * _SECONDS[found["unit"]]
    midnight = datetime.fromtimestamp(now).astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"now": now, "today": midnight.timestamp(), "yesterday": (midnight - timedelta(days=1)).timestamp()}
    if word in named:
        return named[word]
    try:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is not a time; write it like 1h, 2d, today, or 2026-01-31T12:00") from None

"""The conversion of rows to parameters of a query, and of a query's results to rows.

A table's columns are the fields of its row class. Dicts and lists are stored as JSON text, phases by their value.
Characters that no database accepts (NUL, half of a surrogate pair: any program can print them) are replaced, so that a
message of a user's program cannot prevent a row from being written.
"""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from flyte.wire import Event
from tarmac.store.rows import (
    ActionRow,
    AppRow,
    AppVersionRow,
    ArtifactRow,
    AttemptRow,
    CacheRow,
    CurrentTaskRow,
    DeploymentRow,
    ImageRow,
    KeyRow,
    ProjectRow,
    ReportRow,
    RunKeyRow,
    RunRow,
    SecretRow,
    TaskRow,
    TriggerRow,
)

R = TypeVar("R")
Values = dict[str, Any]
"""A query's parameters by name."""

_COLUMNS = {"group": "group_name"}
"""Fields whose name is a keyword of SQL."""

_json = msgspec.json.Encoder(enc_hook=str).encode
_from_json = msgspec.json.decode


def clean(text: str | None) -> str | None:
    """`text` with the characters replaced that a database refuses."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def plain(values: Values) -> Values:
    """The parameters of a query, with the characters replaced that a database refuses."""
    return {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}


def json_text(value: Any) -> str:
    """`value` as JSON; a value without a JSON form becomes text."""
    if not value:
        return "{}" if isinstance(value, dict) else "[]"
    try:
        return _json(value).decode()
    except (UnicodeEncodeError, TypeError, ValueError):
        return clean(json.dumps(value, default=str, skipkeys=True, ensure_ascii=False)) or ""


def _coder(hint: Any) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]:
    """The functions that write and read a field of this type; None if it needs no conversion."""
    if isinstance(hint, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if get_origin(hint) in (dict, list):
        return json_text, _from_json
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return attrgetter("value"), {member.value: member for member in hint}.__getitem__
    if hint is bool:
        return int, bool
    return (clean, None) if hint is str else (None, None)


def _fields(row: type[Any]) -> tuple[str, ...]:
    if issubclass(row, msgspec.Struct):
        return row.__struct_fields__
    return tuple(field.name for field in fields(row))


class Table(Generic[R]):
    """The rows of one class."""

    def __init__(self, row: type[R], key: int) -> None:
        """`key`: how many of the first fields are the key, which an upsert leaves alone."""
        hints = get_type_hints(row)
        self._fields = _fields(row)
        self._get: Callable[[R], tuple[Any, ...]] = attrgetter(*self._fields)
        self._row = row
        coders = [(at, name, *_coder(hints[name])) for at, name in enumerate(self._fields)]
        self._write = [(name, write) for _, name, write, _ in coders if write is not None]
        self._read = [(at, read) for at, _, _, read in coders if read is not None]
        self.parameters = self._fields
        self.columns = tuple(_COLUMNS.get(name, name) for name in self._fields)
        self.replaced = self.columns[key:]

    def values(self, row: R) -> Values:
        values = dict(zip(self._fields, self._get(row), strict=True))
        for name, write in self._write:
            values[name] = write(values[name])
        return values

    def row(self, values: Sequence[Any]) -> R:
        found = list(values)
        for at, read in self._read:
            found[at] = read(found[at])
        return self._row(*found)


class EventTable:
    """Events; their subject is stored in two parts (see `events` in the schema)."""

    columns = parameters = ("seq", "at", "stream", "member", "phase", "message", "attempt", "body")
    replaced = ()

    def values(self, event: Event) -> Values:
        stream, member = split_subject(event.subject)
        return {
            "seq": event.seq,
            "at": event.at,
            "stream": clean(stream),
            "member": clean(member),
            "phase": event.phase,
            "message": clean(event.message),
            "attempt": event.attempt,
            "body": json_text(event.body),
        }

    def row(self, values: Sequence[Any]) -> Event:
        seq, at, stream, member, phase, message, attempt, body = values
        subject = f"{stream}/{member}" if member else stream
        return Event(
            seq=seq, at=at, subject=subject, phase=phase, message=message, attempt=attempt, body=_from_json(body)
        )


def split_subject(subject: str) -> tuple[str, str]:
    """`run/<run>/<action>` is the member `<action>` of the stream `run/<run>`; any other subject is a stream."""
    if subject.startswith("run/"):
        run, _, action = subject[4:].partition("/")
        return f"run/{run}", action
    return subject, ""


RUNS = Table(RunRow, 1)
RUN_KEYS = Table(RunKeyRow, 3)
ACTIONS = Table(ActionRow, 2)
ATTEMPTS = Table(AttemptRow, 3)
REPORTS = Table(ReportRow, 3)
CACHE = Table(CacheRow, 1)
ARTIFACTS = Table(ArtifactRow, 4)
TASKS = Table(TaskRow, 4)
CURRENT_TASKS = Table(CurrentTaskRow, 3)
APPS = Table(AppRow, 3)
APP_VERSIONS = Table(AppVersionRow, 4)
DEPLOYMENTS = Table(DeploymentRow, 1)
IMAGES = Table(ImageRow, 1)
SECRETS = Table(SecretRow, 3)
KEYS = Table(KeyRow, 1)
PROJECTS = Table(ProjectRow, 1)
TRIGGERS = Table(TriggerRow, 4)
EVENTS = EventTable()

TABLES: Mapping[str, Table[Any] | EventTable] = {
    "runs": RUNS,
    "run_keys": RUN_KEYS,
    "actions": ACTIONS,
    "attempts": ATTEMPTS,
    "reports": REPORTS,
    "cache": CACHE,
    "artifacts": ARTIFACTS,
    "tasks": TASKS,
    "current_tasks": CURRENT_TASKS,
    "apps": APPS,
    "app_versions": APP_VERSIONS,
    "deployments": DEPLOYMENTS,
    "images": IMAGES,
    "secrets": SECRETS,
    "keys": KEYS,
    "projects": PROJECTS,
    "triggers": TRIGGERS,
    "events": EVENTS,
}

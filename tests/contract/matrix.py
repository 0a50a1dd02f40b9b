"""Every field of every record and frame, with every bad value: made by walking the classes of `flyte.wire`.

A message is a tree of JSON or msgpack data in which one place holds something bad. A field that is new is in it by
itself; one with a new rule needs a good value in GOOD.
"""

from __future__ import annotations

import functools
import itertools
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from flyte import rules, wire
from tarmac import checks

DEEP = 5_000


@dataclass(frozen=True, slots=True)
class Bad:
    """A value that hurts somewhere, as JSON text and as Python data (None: it has no such form)."""

    name: str
    text: bytes
    data: Any


BAD = (
    Bad("empty", b'""', ""),
    Bad("NUL", b'"a\\u0000b"', "a\0b"),
    Bad("equals", b'"="', "="),
    Bad("slash", b'"/"', "/"),
    Bad("dots", b'".."', ".."),
    Bad("traversal", b'"../../../../x"', "../../../../x"),
    Bad("newline", b'"a\\nb"', "a\nb"),
    Bad("long", b'"' + b"x" * 20_000 + b'"', "x" * 20_000),
    Bad("half a surrogate pair", b'"\\ud800x"', None),
    Bad("zero", b"0", 0),
    Bad("minus one", b"-1", -1),
    Bad("large", b"4611686018427387904", 2**62),
    Bad("larger", b"18446744073709551615", 2**64 - 1),
    Bad("huge", b"1e308", 1e308),
    Bad("NaN", b"NaN", float("nan")),
    Bad("infinite", b"1e999", float("inf")),
    Bad("null", b"null", None),
    Bad("deep", b"[" * DEEP + b"]" * DEEP, None),
)

GOOD: dict[Any, Any] = {
    rules.PROJECT: "flytesnacks",
    rules.DOMAIN: "development",
    rules.VERSION: "v1",
    rules.RUN_NAME: "named",
    rules.UNIT: "w-0",
    rules.ENVIRONMENT_NAME: "victim",
    rules.APP_NAME: "victim",
    rules.APP_PATH: "flytesnacks/development/none",
    rules.TASK_NAME: "victim.add",
    rules.ENTRY: "module:add",
    rules.APP_ENTRY: "",
    rules.SECRET_NAME: "KEY",
    rules.KEY_NAME: "key",
    rules.IDEMPOTENCY_KEY: "once",
    rules.VARIABLE: "NAME",
    rules.PARAMETER_NAME: "parameter",
    rules.HOST: "victim",
    rules.URL_PATH: "/",
    rules.DIGEST: "0" * 64,
    rules.ADDRESS: "127.0.0.1:1",
    rules.JSON: b"[1]",
    str: "text",
    int: 1,
    float: 1.0,
    bytes: b"",
    bool: False,
    msgspec.Raw: {},
    Any: {},
}
"""Rule or type → a good value."""

Step = str | int
Place = tuple[Step, ...]
MARK = "@here@"

JSON_TEXT = "inline"
"""The field of frames that holds inputs, outputs and results, as JSON text."""


def good(hint: Any) -> Any:
    """A good value of a type, with one of all that it holds; what may be left out is None, except records."""
    rule, hint = _parted(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if type(None) in inner:
        (record,) = [option for option in inner if _is_record(option)] or [None]
        return None if record is None else good(record)
    if origin is typing.Literal:
        return inner[0]
    if origin is list:
        return [good(inner[0])] if _is_record(_parted(inner[0])[1]) else []
    if origin is dict:
        return {}
    if origin is tuple:
        return [3, 11] if _parted(inner[0])[1] is int else [good(part) for part in inner]  # a Python, or a place
    if _is_record(hint):
        return {name: good(part) for name, part in checks.fields_of(hint).items()}
    if isinstance(hint, type) and hasattr(hint, "__members__"):
        return next(iter(hint.__members__.values())).value
    return GOOD[rule] if rule in GOOD else GOOD[hint]


def places(hint: Any, at: Place = ()) -> Iterator[Place]:
    """Where in a value of the type something bad can stand. "key" after a "{" is a mapping's key."""
    _, hint = _parted(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if type(None) in inner:
        for option in inner:
            if option is not type(None):
                yield from places(option, at)
    elif _is_record(hint):
        yield from (place for name, part in checks.fields_of(hint).items() for place in places(part, (*at, name)))
        if at:
            yield at
    elif origin is list:
        yield at
        yield from places(inner[0], (*at, 0))
    elif origin is dict:
        yield at
        yield (*at, "{key}")
        yield from places(inner[1], (*at, "key"))
    elif origin is tuple:
        yield at
        yield from ((*at, 0), (*at, 1))
    else:
        yield at


def _parted(hint: Any) -> tuple[Any, Any]:
    """A field's rule, or None, and its type."""
    if typing.get_origin(hint) is Annotated:
        return next((mark for mark in hint.__metadata__ if isinstance(mark, rules.Rule)), None), hint.__origin__
    return None, hint


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def put(tree: Any, place: Place, value: Any) -> Any:
    """The tree with `value` at the place; lists and mappings on the way are made."""
    if not place:
        return value
    step, rest = place[0], place[1:]
    if step == "{key}":
        return {**(tree or {}), value: good_beside(tree)}
    if isinstance(step, int):
        items = list(tree or [])
        items += [None] * (step + 1 - len(items))
        items[step] = put(items[step], rest, value)
        return items
    return {**(tree or {}), step: put((tree or {}).get(step), rest, value)}


def good_beside(tree: Any) -> Any:
    """What stands beside a bad key: something of the kind that the mapping holds."""
    return next(iter(tree.values()), "x") if tree else "x"


def cases(record: type[msgspec.Struct]) -> Iterator[tuple[Place, Bad]]:
    """Each place of a record with each bad value that can stand there."""
    for place, bad in itertools.product(dict.fromkeys(places(record)), BAD):
        if place[-1] != "{key}" or bad.text.startswith(b'"'):
            yield place, bad


def described(place: Place, bad: Bad) -> str:
    return f"{'.'.join(map(str, place))}: {bad.name}"


def text_with(base: Any, place: Place, bad: Bad) -> bytes:
    """The JSON text of `base` with the bad value at the place."""
    return msgspec.json.encode(put(base, place, MARK)).replace(f'"{MARK}"'.encode(), bad.text)


def messages(base: Any, record: type[msgspec.Struct]) -> Iterator[tuple[str, bytes]]:
    """What it is, and the JSON text, for each place and bad value. `base` is a good message."""
    for place, bad in cases(record):
        yield described(place, bad), text_with(base, place, bad)


def frames(base: dict[str, Any], frame: type[wire.Frame]) -> Iterator[tuple[str, bytes]]:
    """What it is, and the packed frame, for each place and bad value. `base` is a good one, as a tree."""
    for what, pack in ways(frame):
        yield what, pack(base)


def ways(frame: type[wire.Frame]) -> Iterator[tuple[str, Callable[[Any], bytes]]]:
    """What it is, and what packs a good frame with that in it."""
    for place, bad in cases(frame):
        what = f"{frame.__name__}.{described(place, bad)}"
        if bad.data is not None:
            yield what, functools.partial(_packed, frame, place, bad.data)
        if place[-1] == JSON_TEXT:
            yield f"{what}, as JSON", functools.partial(_packed, frame, place, bad.text)


def _packed(frame: type[wire.Frame], place: Place, value: Any, base: Any) -> bytes:
    body = msgspec.msgpack.encode(_as_array(frame, put(base, place, value)))
    return len(body).to_bytes(4, "little") + body


def _as_array(hint: Any, tree: Any) -> Any:
    """The tree as frames are encoded: an array that begins with the class's name."""
    _, hint = _parted(hint)
    inner = typing.get_args(hint)
    if isinstance(tree, list) and inner:
        return [_as_array(inner[0], item) for item in tree]
    record = next((option for option in (hint, *inner) if _is_record(_parted(option)[1])), None)
    if record is None or not isinstance(tree, dict) or not issubclass(record, wire.Frame):
        return tree
    hints = checks.fields_of(record)
    return [record.__name__, *(_as_array(hints[name], tree.get(name, good(hints[name]))) for name in hints)]


def message(record: type[msgspec.Struct], overrides: dict[Any, Any]) -> Any:
    """A good message of the record, with these values at these places."""
    tree = good(record)
    for place, value in overrides.items():
        tree = put(tree, place, value)
    return tree


TASK = ("tasks", 0)
APP = ("apps", 0)


def deployment(project: str, name: str) -> dict[str, Any]:
    """A deployment of a task and of an app that has one replica."""
    found: dict[str, Any] = message(
        wire.DeployRequest,
        {
            ("project",): project,
            ("root",): "/",
            ("moves_current",): True,
            (*TASK, "name"): f"{name}.add",
            (*TASK, "short_name"): "",
            (*TASK, "environment", "name"): name,
            (*TASK, "environment", "secrets"): [],
            (*TASK, "environment", "depends_on"): [],
            (*TASK, "interface", "inputs", 0, "name"): "x",
            (*TASK, "interface", "inputs", 0, "schema"): {"type": "integer"},
            (*TASK, "links"): [{"name": "text", "uri": "https://text"}],
            (*TASK, "triggers", 0, "cron"): "@yearly",
            (*TASK, "triggers", 0, "timezone"): "UTC",
            (*TASK, "triggers", 0, "every"): 0,
            (*TASK, "triggers", 0, "inputs"): {"x": 1},
            (*TASK, "triggers", 0, "time_inputs"): [],
            (*APP, "name"): f"{name}-app",
            (*APP, "kind"): "command",
            (*APP, "argv"): ["x"],
            (*APP, "environment", "name"): f"{name}-app",
            (*APP, "environment", "kind"): "app",
            (*APP, "environment", "secrets"): [],
        },
    )
    return found


def accepted(base: Any, record: type[msgspec.Struct]) -> list[tuple[Place, Bad]]:
    """The cases that the API takes, as far as the form of the body goes."""
    return [(place, bad) for place, bad in cases(record) if _is_accepted(text_with(base, place, bad), record)]


def _is_accepted(text: bytes, record: type[msgspec.Struct]) -> bool:
    try:
        return checks.problem(msgspec.json.decode(text, type=record)) is None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return False

"""Python values ⇄ JSON, by annotation.

Every annotation is compiled once into a `Codec`, which knows four things: how a value is dumped, how JSON is loaded,
the JSON Schema in between, and its own name for messages. `scalars` has the scalars, `containers`
the lists, mappings and unions and the table of all, `fields` what has fields, `untyped` the rest.

The promise is `from_json(to_json(value, T), T) == value`. What comes from elsewhere (a webhook's body, the command
line) is met half-way: 1 for a float, 1.0 for an int, ISO text for a date, an enum by name or value. It is not guessed
at: "1" is no int and 5 is no str. A naive datetime is taken as UTC.

Where the annotation is `Any` or missing (also inside a container: a bare `dict` holds `Any`), JSON-like values travel
as they are, and a few standard types as an object with one key, such as `{"$datetime": "…"}`. Everything else there,
and every class that is not known here, is pickled (`{"$pickle": "…"}`, with a warning). Loading a pickle runs code, so
it happens under such an annotation *only*, and `to_json` escapes keys of that form in what it is given: JSON that a
stranger sent to a webhook, and that the webhook passes on as an input, stays plain JSON. Who may talk to the platform's
API directly could send one, and may run code there anyway.
"""

from __future__ import annotations

import functools
import json
import reprlib
import typing
from typing import Any

import msgspec

from flyte.errors import InvalidInputError

if typing.TYPE_CHECKING:
    from flyte._values.scalars import Codec

_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxother = 60
_SHORTENED.maxdict = _SHORTENED.maxlist = _SHORTENED.maxtuple = 3


class Mismatch(Exception):
    """A value is not of the expected type; codecs add the way to it from the inside out."""

    def __init__(self, expected: str, value: Any, why: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.value = value
        self.why = why
        self.path: list[str] = []

    def under(self, step: str) -> Mismatch:
        self.path.insert(0, step)
        return self

    def sentence(self, name: str) -> str:
        """What is wrong, in one line that names the thing, the value and what is expected."""
        place = name + "".join(self.path)
        if self.why:
            return f"{place} must be {self.expected}: {self.why}"
        if hasattr(type(self.value), "__await__"):
            return f"{place} must be {self.expected}, not something to be awaited: did you forget `await`?"
        return f"{place} must be {self.expected}, not {shorten(self.value)}"


def shorten(value: Any) -> str:
    """The value as a person would like to read it in one line, with its type where that is the point."""
    text = _SHORTENED.repr(value)
    return text if value is None or isinstance(value, bool) else f"{text} ({type(value).__name__})"


def to_json(value: Any, annotation: Any = Any, name: str = "the value") -> Any:
    """`value` as data that JSON can hold. Raises InvalidInputError, whose sentence begins with `name`."""
    try:
        return codec_of(annotation).dump(value)
    except Mismatch as mismatch:
        raise InvalidInputError(mismatch.sentence(name)) from None


def from_json(data: Any, annotation: Any = Any, name: str = "the value") -> Any:
    """The value that `data` stands for. Raises InvalidInputError, whose sentence begins with `name`.

    Unpickles only where the annotation is `Any`, missing, or a class of no kind that is known here.
    """
    try:
        return codec_of(annotation).load(data)
    except Mismatch as mismatch:
        raise InvalidInputError(mismatch.sentence(name)) from None


def encode(value: Any, annotation: Any = Any, name: str = "the value") -> bytes:
    """`to_json`, as JSON text."""
    return to_bytes(to_json(value, annotation, name))


def decode(text: bytes | str, annotation: Any = Any, name: str = "the value") -> Any:
    """`from_json` of JSON text. Raises InvalidInputError for text that is no JSON, too."""
    return from_json(from_bytes(text, name), annotation, name)


def schema(annotation: Any) -> dict[str, Any]:
    """The JSON Schema of values of this annotation, as they travel."""
    from flyte._values.scalars import Schemas

    return Schemas().whole(codec_of(annotation))


def describe(annotation: Any) -> str:
    """The annotation in words, as messages and help texts show it."""
    return codec_of(annotation).name


def codec_of(annotation: Any) -> Codec:
    """The compiled form of an annotation."""
    if isinstance(annotation, type):
        return _codec_of_class(annotation, None)
    try:
        # `int | str` equals `str | int`, so that the text has to tell them apart.
        return _codec_of_class(annotation, str(annotation))
    except TypeError:  # not hashable, such as Annotated[int, {}]
        return _compile(annotation)


@functools.cache
def _codec_of_class(annotation: Any, text: str | None) -> Codec:
    return _compile(annotation)


def _compile(annotation: Any) -> Codec:
    from flyte._values.containers import compile_codec

    return compile_codec(annotation)


def to_bytes(data: Any) -> bytes:
    """JSON text of plain data, compact."""
    try:
        return msgspec.json.encode(data)
    except (OverflowError, UnicodeEncodeError):  # integers beyond 64 bits, lone surrogates
        return json.dumps(data, separators=(",", ":")).encode()


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def from_bytes(text: bytes | str, name: str = "the value") -> Any:
    """Plain data from JSON text. Raises InvalidInputError where it is none."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        try:
            return json.loads(text, parse_constant=_no_constant)
        except ValueError:
            raise InvalidInputError(f"{name} is not JSON: {error}") from None

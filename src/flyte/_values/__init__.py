"""Python values ⇄ JSON, by annotation.

Every annotation is compiled once into a `Codec`, which knows four things: how a value is dumped, how JSON is loaded,
the JSON Schema in between, and its own name for messages. `scalars` has the scalars, `containers`
the lists, mappings and unions and the table of all, `fields` what has fields, `untyped` the rest.

The promise is `from_json(to_json(value, T), T) == value`. What comes from elsewhere (a webhook's body, the command
line) is met half-way: 1 for a float, 1.0 for an int, ISO text for a date, an enum by name or value. It is not guessed
at: "1" is not an int and 5 is not a str. A naive datetime is taken as UTC.

Where the annotation is `Any` or missing (also inside a container: a bare `dict` holds `Any`), JSON-like values travel
as they are, and a few standard types as an object with one key, such as `{"$datetime": "…"}`. Everything else there,
and every class that is not known here, is pickled (`{"$pickle": "…"}`, with a warning). Loading a pickle runs code, so
it happens under such an annotation *only*, and `to_json` escapes keys of that form in what it is given: JSON that a
stranger sent to a webhook, and that the webhook passes on as an input, stays plain JSON. Who may talk to the platform's
API directly could send one, and may run code there anyway.
"""

from __future__ import annotations

from typing import Any

from flyte._values.codec import Mismatch, Schemas
from flyte._values.table import codec_of
from flyte._values.text import from_bytes, to_bytes
from flyte.errors import InvalidInputError


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
    return Schemas().whole(codec_of(annotation))


def describe(annotation: Any) -> str:
    """The annotation in words, as messages and help texts show it."""
    return codec_of(annotation).name

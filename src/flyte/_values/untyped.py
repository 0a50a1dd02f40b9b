"""Codecs where the annotation says nothing: values of any kind, and of classes that are not known here."""

from __future__ import annotations

import pathlib
from typing import Any

from flyte._values import pickles as _pickles
from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas
from flyte._values.scalars import FLOAT, SCALARS, path_codec

UNION_TAG = "$type"
"""The key beside `value` in a union's member that its JSON alone would not tell."""


class PickledCodec(Codec):
    """A class that nothing is known of, or, with `is_meant`, one that the annotation asks to pickle."""

    def __init__(self, cls: Any, name: str, is_meant: bool = False) -> None:
        self.cls = cls
        self._is_meant = is_meant
        self.exact = cls if isinstance(cls, type) else None
        self.name = name

    def _dump(self, value: Any) -> Any:
        if self.exact is not None and not isinstance(value, self.exact):
            raise Mismatch(self.name, value)
        return _pickles.dump(value, warn=not self._is_meant)

    def _load(self, data: Any, strict: bool) -> Any:
        if not _pickles.is_pickle(data):
            raise Mismatch(f"{self.name} (pickled)", data)
        value = _pickles.load(data)
        if self.exact is not None and not isinstance(value, self.exact):
            raise Mismatch(self.name, value)
        return value

    def schema(self, schemas: Schemas) -> JsonSchema:
        return {"type": "object", "properties": {_pickles.MARK: {"type": "string"}}, "title": self.name}


class AnyCodec(Codec):
    """JSON-like values as they are; other standard types under a mark; the rest pickled."""

    name = "Any"
    exact = None
    PAIRS = "$pairs"

    def _dump(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if isinstance(value, list):
            return [self._dump(item) for item in value]
        if isinstance(value, dict):
            return self._dump_dict(value)
        if kind is float:
            number = FLOAT.dump(value)
            return {"$float": number} if isinstance(number, str) else number
        if kind.__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
            return self._dump(value.item())
        mark = _mark_of(value)
        return {mark: _MARKS[mark][1].dump(value)} if mark else _pickles.dump(value)

    def _dump_dict(self, value: dict[Any, Any]) -> Any:
        if all(type(key) is str for key in value):
            return {_escaped(key): self._dump(item) for key, item in value.items()}
        return {self.PAIRS: [[self._dump(key), self._dump(item)] for key, item in value.items()]}

    def _load(self, data: Any, strict: bool) -> Any:
        if type(data) is list:
            return [self._load(item, strict) for item in data]
        if type(data) is not dict:
            return data
        if _pickles.is_pickle(data):
            return _pickles.load(data)
        if len(data) == 1:
            ((key, item),) = data.items()
            if key == self.PAIRS and isinstance(item, list):
                return {self._load(k, strict): self._load(v, strict) for k, v in item}
            if key in _MARKS:
                return _MARKS[key][1].load(item)
        return {_unescaped(key): self._load(item, strict) for key, item in data.items()}


ANY = AnyCodec()

_MARKS: dict[str, tuple[type, Codec]] = {
    "$path": (pathlib.Path, path_codec(pathlib.Path)),
    **{
        f"${cls.__name__.lower()}": (cls, codec)
        for cls, codec in SCALARS.items()
        if cls not in (int, str, bool, type(None))
    },
}
"""Mark → the class whose values travel under it where nothing is declared, and the codec of what is under it."""


def register(mark: str, cls: type, codec: Codec) -> None:
    """Let the values of a class travel under `mark` where nothing is declared, instead of pickled."""
    _MARKS[mark] = cls, codec


def _mark_of(value: Any) -> str | None:
    kind = type(value)
    for mark, (cls, _) in _MARKS.items():
        if kind is cls or (cls is pathlib.Path and isinstance(value, cls)):
            return mark
    return None


def has_mark(value: Any) -> bool:
    """Whether a value of this class travels under a mark where nothing is declared."""
    return _mark_of(value) is not None


def _is_mark(key: str) -> bool:
    return key in (AnyCodec.PAIRS, _pickles.MARK, UNION_TAG) or key in _MARKS


def _escaped(key: Any) -> Any:
    """A user's own key that reads like a mark gets one more `$`, so that it cannot be taken for one."""
    return f"${key}" if key[:1] == "$" and _is_mark("$" + key.lstrip("$")) else key


def _unescaped(key: Any) -> Any:
    return key[1:] if isinstance(key, str) and key[:2] == "$$" and _is_mark("$" + key.lstrip("$")) else key

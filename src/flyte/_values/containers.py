"""Codecs of values that hold others: lists, tuples, mappings and unions."""

from __future__ import annotations

import collections
import collections.abc
from collections.abc import Callable, Iterable
from typing import Any

from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas, Step
from flyte._values.constraints import ConstrainedCodec, NotKept
from flyte._values.scalars import EnumCodec, LiteralCodec, Scalar
from flyte._values.text import from_bytes, to_bytes
from flyte._values.untyped import ANY, UNION_TAG, AnyCodec


class ListCodec(Codec):
    """list, set, frozenset and `tuple[T, ...]`. Sets are sorted by their JSON text: the same set is the same text."""

    def __init__(self, make: type, item: Codec, word: str) -> None:
        self.make = self.exact = make
        self.item = item
        self.name = word if isinstance(item, AnyCodec) else f"{word}[{item.name}{', ...' if make is tuple else ''}]"
        self.is_set = make in (set, frozenset)

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, (set, frozenset) if self.is_set else (list, tuple, collections.deque)):
            raise Mismatch(self.name, value)
        items = self._each(value, self.item.dump)
        return sorted(items, key=to_bytes) if self.is_set else items

    def _load(self, data: Any, strict: bool) -> Any:
        if not isinstance(data, list if strict else (list, tuple, set, frozenset)):
            raise Mismatch(self.name, data)
        return self.make(self._each(data, lambda item: self.item.load(item, strict)))

    @staticmethod
    def _each(values: Iterable[Any], change: Callable[[Any], Any]) -> list[Any]:
        changed = []
        for index, value in enumerate(values):
            try:
                changed.append(change(value))
            except Mismatch as mismatch:
                raise mismatch.under(f"[{index}]") from None
        return changed

    def schema(self, schemas: Schemas) -> JsonSchema:
        unique = {"uniqueItems": True} if self.is_set else {}
        return {"type": "array", "items": schemas.of(self.item), **unique}


class TupleCodec(Codec):
    """A tuple of fixed length."""

    exact = tuple

    def __init__(self, items: list[Codec]) -> None:
        self.items = items
        self.name = f"tuple[{', '.join(item.name for item in items) or '()'}]"

    def _dump(self, value: Any) -> Any:
        return [item.dump(each) for item, each in self._pairs(value, tuple)]

    def _load(self, data: Any, strict: bool) -> Any:
        return tuple(item.load(each, strict) for item, each in self._pairs(data, (list, tuple)))

    def _pairs(self, values: Any, accepted: Any) -> Iterable[tuple[Codec, Any]]:
        if not isinstance(values, accepted):
            raise Mismatch(self.name, values)
        if len(values) != len(self.items):
            raise Mismatch(self.name, values, f"it has {len(values)} elements, not {len(self.items)}")
        for index, (item, each) in enumerate(zip(self.items, values, strict=True)):
            yield Step(item, f"[{index}]"), each

    def schema(self, schemas: Schemas) -> JsonSchema:
        count = len(self.items)
        items = [schemas.of(item) for item in self.items]
        return {"type": "array", "prefixItems": items, "minItems": count, "maxItems": count}


class DictCodec(Codec):
    """A mapping. Keys that are text once dumped make a JSON object; other mappings are a list of pairs."""

    def __init__(self, make: type, key: Codec, value: Codec) -> None:
        self.make = self.exact = make
        self.key, self.value = key, value
        both_any = isinstance(key, AnyCodec) and isinstance(value, AnyCodec)
        self.name = "dict" if both_any else f"dict[{key.name}, {value.name}]"
        plain = key.codec if isinstance(key, ConstrainedCodec) else key
        self.text_keys = isinstance(plain, (Scalar, EnumCodec)) or (
            isinstance(plain, LiteralCodec) and all(isinstance(form, str) for form in plain.travel)
        )

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, collections.abc.Mapping):
            raise Mismatch(self.name, value)
        if isinstance(self.key, AnyCodec) and isinstance(self.value, AnyCodec):
            return ANY.dump(dict(value))
        pairs = [[self._key(key), self._at(key).dump(item)] for key, item in value.items()]
        if self.text_keys or all(isinstance(key, str) for key, _ in pairs):
            return {key if isinstance(key, str) else to_bytes(key).decode(): item for key, item in pairs}
        return pairs

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(self.key, AnyCodec) and isinstance(self.value, AnyCodec):
            loaded = ANY.load(data)
            if not isinstance(loaded, dict):
                raise Mismatch(self.name, data)
            return self.make(loaded)
        return self.make((self._read_key(key), self._at(key).load(item, strict)) for key, item in self._items(data))

    def _items(self, data: Any) -> Iterable[tuple[Any, Any]]:
        if isinstance(data, dict):
            return data.items()
        if isinstance(data, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in data):
            return ((key, item) for key, item in data)
        raise Mismatch(self.name, data)

    def _at(self, key: Any) -> Step:
        return Step(self.value, f"[{key!r}]")

    def _key(self, key: Any) -> Any:
        try:
            return self.key.dump(key)
        except Mismatch as mismatch:
            raise mismatch.under(f"[key {key!r}]") from None

    def _read_key(self, key: Any) -> Any:
        try:
            return self.key.load(key)
        except Mismatch as mismatch:
            if isinstance(key, str) and self.text_keys:
                try:
                    return self.key.load(from_bytes(key))
                except (Mismatch, ValueError):
                    pass
            raise mismatch.under(f"[key {key!r}]") from None

    def schema(self, schemas: Schemas) -> JsonSchema:
        if not self.text_keys and not isinstance(self.key, AnyCodec):
            pair = {"type": "array", "prefixItems": [schemas.of(self.key), schemas.of(self.value)]}
            return {"type": "array", "items": pair}
        values = schemas.of(self.value)
        return {"type": "object", "additionalProperties": values} if values else {"type": "object"}


class UnionCodec(Codec):
    """One of several types.

    What is dumped is the plain JSON of the member, unless loading that would give another member: then it is an
    object with the member's name, so that every value comes back as what it was.
    """

    TAG = UNION_TAG

    def __init__(self, members: list[Codec]) -> None:
        self.exact = None
        self.members = members
        self.name = " | ".join(member.name for member in members)

    def _dump(self, value: Any) -> Any:
        index, data = self._dumped(value)
        chosen = None if self._is_tagged(data) else self._choose(data)
        return data if chosen is not None and chosen[0] == index else {self.TAG: index, "value": data}

    def _dumped(self, value: Any) -> tuple[int, Any]:
        """The member that the value belongs to, by its class if one is of that class, and its JSON."""
        by_class = [(i, member) for i, member in enumerate(self.members) if member.exact is type(value)]
        for index, member in by_class + list(enumerate(self.members)):
            try:
                return index, member._dump(value)
            except Mismatch:
                continue
        chosen = self._choose(value)
        if chosen is None:
            raise self._explained(value)
        return chosen[0], self.members[chosen[0]].dump(value)

    def _load(self, data: Any, strict: bool) -> Any:
        if self._is_tagged(data):
            return self.members[data[self.TAG]].load(data["value"], strict)
        chosen = self._choose(data, strict)
        if chosen is None:
            raise self._explained(data)
        return chosen[1]

    def _is_tagged(self, data: Any) -> bool:
        if type(data) is not dict or set(data) != {self.TAG, "value"}:
            return False
        return type(data[self.TAG]) is int and 0 <= data[self.TAG] < len(self.members)

    def _choose(self, data: Any, strict: bool = False) -> tuple[int, Any] | None:
        """The first member that takes `data` as it stands, else the first that takes it at all."""
        for strictly in (True,) if strict else (True, False):
            for index, member in enumerate(self.members):
                try:
                    return index, member.load(data, strictly)
                except Mismatch:
                    continue
        return None

    def _explained(self, value: Any) -> Mismatch:
        """Where one member is the only candidate, what is wrong inside it says more than the union's name."""
        others = [member for member in self.members if member.exact is not type(None)]
        if len(others) == 1:
            try:
                others[0].load(value)
            except Mismatch as mismatch:
                if mismatch.path or mismatch.why or isinstance(mismatch, NotKept):
                    return mismatch
        return Mismatch(self.name, value)

    def schema(self, schemas: Schemas) -> JsonSchema:
        return {"anyOf": [schemas.of(member) for member in self.members]}

"""The codecs of single values: numbers, text, dates, enums, literals."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import math
import numbers
import pathlib
import re
import uuid
from collections.abc import Callable
from typing import Any

from flyte._values.codec import Codec, JsonSchema, Mismatch, Schemas


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar(Codec):
    """A codec made of plain functions, which raise TypeError, ValueError or ArithmeticError for what does not fit."""

    name: str
    exact: type
    json_schema: JsonSchema
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    lenient: Callable[[Any], Any] | None = None
    """Reads what `read` refuses, where nothing has to be told apart."""
    form: str = ""
    """What the text looks like, for messages."""

    def schema(self, schemas: Schemas) -> JsonSchema:
        return dict(self.json_schema)

    def _dump(self, value: Any) -> Any:
        try:
            return self.write(value)
        except (TypeError, ValueError, ArithmeticError):
            raise self._mismatch(value) from None

    def _load(self, data: Any, strict: bool) -> Any:
        try:
            return self.read(data)
        except (TypeError, ValueError, ArithmeticError):
            if not strict and type(data) is self.exact:
                return data
            if strict or self.lenient is None:
                raise self._mismatch(data) from None
        try:
            return self.lenient(data)
        except (TypeError, ValueError, ArithmeticError):
            raise self._mismatch(data) from None

    def _mismatch(self, value: Any) -> Mismatch:
        return Mismatch(self.name + (f" ({self.form})" if self.form else ""), value)


def _only(*types: type) -> Callable[[Any], Any]:
    """The value itself, if it is exactly of one of the types: True is not an int here."""

    def check(value: Any) -> Any:
        if type(value) not in types:
            raise TypeError
        return value

    return check


def _text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """`parse` of a str, and of nothing else."""

    def read(data: Any) -> Any:
        if type(data) is not str:
            raise TypeError
        return parse(data)

    return read


def instance(cls: type, write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`write` of an instance of `cls`, and of nothing else."""

    def check(value: Any) -> Any:
        if not isinstance(value, cls):
            raise TypeError
        return write(value)

    return check


def _whole(data: Any) -> int:
    if isinstance(data, float) and data.is_integer():
        return int(data)
    raise TypeError


NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def write_float(value: Any) -> float | str:
    """A float; JSON has no word for those that are not finite, so that they travel as text."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if number != value:  # a large whole number, a fraction: it would arrive as another
        raise ValueError
    return number if math.isfinite(number) else ("Infinity" if number > 0 else "-Infinity")


def _read_float(data: Any) -> float:
    if type(data) is float:
        return data
    if type(data) is str and data in NOT_FINITE:
        return NOT_FINITE[data]
    raise TypeError


def _truth(value: Any) -> bool:
    """A bool, numpy's own included."""
    if type(value) is bool or (type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")):
        return bool(value)
    raise TypeError


def _exact(value: Any) -> Any:
    """The value, unless it has nanoseconds (pandas), or is pandas' NaT: neither would arrive."""
    if getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0) or value != value:
        raise ValueError
    return value


def _write_date(value: dt.date) -> str:
    if isinstance(value, dt.datetime) and (value.time() != dt.time() or _exact(value) is None):
        raise ValueError  # the time would be lost
    return dt.date(value.year, value.month, value.day).isoformat()


def _write_time(value: dt.time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise ValueError  # of a zone whose offset depends on the day, ISO text has no word
    return value.isoformat()


def _float_of_whole(data: Any) -> float:
    if not isinstance(data, int) or float(data) != data:
        raise TypeError
    return float(data)


def _write_datetime(value: dt.datetime) -> str:
    _exact(value)
    return dt.datetime.isoformat(value if value.tzinfo else value.replace(tzinfo=dt.UTC))


def _read_datetime(text: str) -> dt.datetime:
    value = dt.datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=dt.UTC)


def _midnight(text: str) -> dt.date:
    value = dt.datetime.fromisoformat(text)
    if value.time() != dt.time():
        raise ValueError
    return value.date()


_DURATION = re.compile(
    r"(?P<sign>-)?P?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+(?:\.\d+)?)D)?T?"
    r"(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?",
    re.IGNORECASE,
)


def write_duration(value: dt.timedelta) -> str:
    """ISO 8601, exact to the microsecond: `P1DT2.5S`, `-PT3S`."""
    sign = "-" if value < dt.timedelta() else ""
    value = abs(value)
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    days = f"{value.days}D" if value.days else ""
    return f"{sign}P{days}T{value.seconds}{fraction}S"


def read_duration(text: str) -> dt.timedelta:
    """ISO 8601, or short such as `1h30m`. Raises ValueError otherwise."""
    found = _DURATION.fullmatch(text.strip())
    parts = {key: value for key, value in found.groupdict().items() if value and key != "sign"} if found else {}
    if not found or not parts:
        raise ValueError(f"{text!r} is not a duration")
    seconds, _, fraction = parts.pop("seconds", "0").partition(".")
    micros = int((fraction + "000000")[:6])
    value = dt.timedelta(seconds=int(seconds), microseconds=micros, **{k: float(v) for k, v in parts.items()})
    return -value if found["sign"] else value


def _seconds(data: Any) -> dt.timedelta:
    if type(data) not in (int, float):
        raise TypeError
    return dt.timedelta(seconds=data)


def _read_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _decimal_of_number(data: Any) -> decimal.Decimal:
    if type(data) not in (int, float):
        raise TypeError
    return decimal.Decimal(str(data))


def _string(**more: Any) -> JsonSchema:
    return {"type": "string", **more}


INT = Scalar("int", int, {"type": "integer"}, write=instance(numbers.Integral, int), read=_only(int), lenient=_whole)
FLOAT = Scalar("float", float, {"type": "number"}, write=write_float, read=_read_float, lenient=_float_of_whole)
STR = Scalar("str", str, _string(), write=instance(str, str.__str__), read=_only(str))
BOOL = Scalar("bool", bool, {"type": "boolean"}, write=_truth, read=_only(bool))
NONE = Scalar("None", type(None), {"type": "null"}, write=_only(type(None)), read=_only(type(None)))
DATETIME = Scalar(
    "datetime",
    dt.datetime,
    _string(format="date-time"),
    write=instance(dt.datetime, _write_datetime),
    read=_text(_read_datetime),
    form="ISO text, such as 2026-01-31T12:00:00Z",
)

SCALARS: dict[Any, Scalar] = {
    codec.exact: codec
    for codec in (
        INT,
        FLOAT,
        STR,
        BOOL,
        NONE,
        DATETIME,
        Scalar(
            "bytes",
            bytes,
            _string(contentEncoding="base64"),
            write=lambda value: base64.b64encode(_only(bytes, bytearray, memoryview)(value)).decode(),
            read=_text(_read_base64),
            form="base64 text",
        ),
        Scalar(
            "date",
            dt.date,
            _string(format="date"),
            write=instance(dt.date, _write_date),
            read=_text(dt.date.fromisoformat),
            lenient=_text(_midnight),
            form="ISO text, such as 2026-01-31",
        ),
        Scalar(
            "time",
            dt.time,
            _string(format="time"),
            write=instance(dt.time, _write_time),
            read=_text(dt.time.fromisoformat),
            form="ISO text, such as 12:30:00",
        ),
        Scalar(
            "timedelta",
            dt.timedelta,
            _string(format="duration"),
            write=instance(dt.timedelta, lambda value: write_duration(_exact(value))),
            read=_text(read_duration),
            lenient=_seconds,
            form="seconds, or text such as PT1H30M or 1h30m",
        ),
        Scalar("UUID", uuid.UUID, _string(format="uuid"), write=instance(uuid.UUID, str), read=_text(uuid.UUID)),
        Scalar(
            "Decimal",
            decimal.Decimal,
            _string(format="decimal"),
            write=instance(decimal.Decimal, str),
            read=_text(decimal.Decimal),
            lenient=_decimal_of_number,
        ),
        Scalar("complex", complex, _string(), write=instance(complex, str), read=_text(complex)),
    )
}


def path_codec(cls: type[pathlib.PurePath]) -> Scalar:
    return Scalar("Path", cls, _string(format="path"), write=instance(pathlib.PurePath, str), read=_text(cls))


def derived_codec(cls: type, base: Scalar) -> Scalar:
    """For a subclass of int, float or str: it travels as what it is, and is made again by its class."""
    return dataclasses.replace(base, name=cls.__name__, exact=cls, read=lambda data: cls(base.read(data)))


class EnumCodec(Codec):
    """A member travels as its value where that is a JSON scalar, else by its name; both are understood."""

    def __init__(self, cls: type[enum.Enum]) -> None:
        self.cls = self.exact = cls
        self.name = cls.__name__
        self.by_value = all(type(member.value) in (str, int, float) for member in cls)

    def _dump(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise self._mismatch(value)
        return value.value if self.by_value else value.name

    def _load(self, data: Any, strict: bool) -> Any:
        if isinstance(data, self.cls):
            return data
        if self.by_value and not isinstance(data, bool):
            try:
                return self.cls(data)
            except (ValueError, TypeError):
                pass
        if isinstance(data, str) and data in self.cls.__members__:
            return self.cls[data]
        raise self._mismatch(data)

    def schema(self, schemas: Schemas) -> JsonSchema:
        if issubclass(self.cls, enum.Flag):
            return {"type": "integer", "title": self.name}
        names = [member.name for member in self.cls]
        return {"enum": [self._dump(member) for member in self.cls], "title": self.name, "x-names": names}

    def _mismatch(self, value: Any) -> Mismatch:
        names = ", ".join(list(self.cls.__members__)[:12])
        return Mismatch(f"one of {self.name}'s members ({names})", value)


class LiteralCodec(Codec):
    """One of the values that the annotation lists."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.exact = None
        self.values = values
        self.name = " | ".join(repr(value) for value in values)
        self.travel = [_literal_form(value) for value in values]

    def _dump(self, value: Any) -> Any:
        for known, form in zip(self.values, self.travel, strict=True):
            if type(known) is type(value) and known == value:
                return form
        raise Mismatch(f"one of {self.name}", value)

    def _load(self, data: Any, strict: bool) -> Any:
        for known, form in zip(self.values, self.travel, strict=True):
            if type(form) is type(data) and form == data:
                return known
        raise Mismatch(f"one of {self.name}", data)

    def schema(self, schemas: Schemas) -> JsonSchema:
        return {"enum": list(self.travel)}


def _literal_form(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return EnumCodec(type(value)).dump(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value

"""The key under which the result of a call is in the cache, on a platform as in local mode.

Calls with the same key may share a result: the same task, at the same cache version and with the same interface, in the
same project and domain, called with the same inputs. A `File`, a `Dir` and other values that lie elsewhere count by
their content, not by their path.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from flyte.json_schema import Schema, resolved
from flyte.wire import CacheSpec, InterfaceSpec

LOCATED = frozenset({"file", "dir", "parquet"})
"""Formats in a JSON Schema of values that are a path or an address, with a hash of the content where one is known."""

MARKS = frozenset({"$file", "$dir", "$dataframe"})
"""The key of an object with one key, in which a located value travels where no type is declared."""

_MODEL = "$model"
"""The key of an object with one key that holds the fields of a pydantic model."""

_BLOB = "blob://"


def key_of(place: tuple[str, str, str], cache: CacheSpec, interface: InterfaceSpec, inputs: bytes) -> str:
    """The key of a call: sha256 in hex. `place` is project, domain and the task's name; `inputs` is a JSON object.

    Reads the content of files that have no hash, so it may take as long as that.
    """
    given = json.loads(inputs)
    schemas = {spec.name: spec.schema for spec in interface.inputs}
    defaults = {spec.name: spec.default for spec in interface.inputs if bytes(spec.default) != b"null"}
    values = {name: json.loads(bytes(default)) for name, default in defaults.items()} | given
    counted = {
        name: replaced(value, schemas.get(name, {}), _content)
        for name, value in values.items()
        if name not in cache.ignored_inputs
    }
    types = [[(spec.name, spec.schema) for spec in specs] for specs in (interface.inputs, interface.outputs)]
    parts = (*place, cache.version, cache.salt, sorted(cache.ignored_inputs), types, counted)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def has_located(schemas: Iterable[Schema], values: bytes = b"") -> bool:
    """Whether these values, as JSON, may have files or folders among them, by their schemas or by a mark."""
    if any(f'"{mark}"'.encode() in values for mark in MARKS):
        return True
    return any(f'"format":"{name}"'.encode() in text for text in map(msgspec.json.encode, schemas) for name in LOCATED)


def replaced(value: Any, schema: Any, change: Callable[[Any], Any], root: Schema | None = None) -> Any:
    """`value` with each located value in it, as the schema has them, replaced by `change(…)` of it."""
    root = schema if root is None else root
    found = resolved(schema, root)
    if found.get("format") in LOCATED:
        return change(value) if address_of(value) is not None else value
    if isinstance(value, dict) and len(value) == 1:
        ((key, inner),) = value.items()
        new = inner
        if key in MARKS and address_of(inner) is not None:
            new = change(inner)
        elif key == _MODEL:
            new = replaced(inner, found, change, root)
        if new is not inner:
            return {key: new}
    if isinstance(value, dict) and set(value) == {"$type", "value"}:
        options = [*found.get("anyOf", ()), *found.get("oneOf", ())]
        if isinstance(value["$type"], int) and 0 <= value["$type"] < len(options):
            return {**value, "value": replaced(value["value"], options[value["$type"]], change, root)}
    for word in ("anyOf", "oneOf", "allOf"):
        for option in found.get(word, ()):
            if (new := replaced(value, option, change, root)) is not value:
                return new
    if isinstance(value, list) and value:
        return _items(value, found, change, root)
    if isinstance(value, dict) and value:
        return _entries(value, found, change, root)
    return value


def _items(value: list[Any], schema: Schema, change: Callable[[Any], Any], root: Schema) -> list[Any]:
    first, rest = schema.get("prefixItems", ()), schema.get("items", {})
    new = [replaced(each, first[at] if at < len(first) else rest, change, root) for at, each in enumerate(value)]
    return value if all(map(_is, new, value)) else new


def _entries(value: dict[str, Any], schema: Schema, change: Callable[[Any], Any], root: Schema) -> dict[str, Any]:
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
    new = {name: replaced(each, known.get(name, rest), change, root) for name, each in value.items()}
    return value if all(map(_is, new.values(), value.values())) else new


def _is(one: Any, other: Any) -> bool:
    return one is other


def missing_file(outputs: bytes, schemas: Iterable[Schema]) -> str | None:
    """A file of this machine that these outputs, a JSON list, name and that is not there; None if all are.

    Raises ValueError and RecursionError for what is not JSON.
    """
    gone: list[str] = []

    def look(value: Any) -> Any:
        path = local_path(address_of(value) or "")
        if path is not None and not os.path.exists(path):
            gone.append(path)
        return value

    for value, schema in zip(json.loads(outputs), schemas, strict=False):
        replaced(value, schema, look)
    return gone[0] if gone else None


def address_of(value: Any) -> str | None:
    """The path or address of a located value; None for anything else."""
    if isinstance(value, Mapping):
        value = value.get("path") or value.get("uri")
    return value if isinstance(value, str) and (value.startswith("/") or "://" in value) else None


def local_path(address: str) -> str | None:
    """The path on this machine, or None for an address elsewhere."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    return unquote(rest) if scheme == "file" else None


def _content(value: Any) -> Any:
    """What stands for a located value in the key: the hash of its content or, where nobody knows that, its address."""
    known = value.get("hash") if isinstance(value, Mapping) else None
    if isinstance(known, str) and known:
        return {"hash": known}
    address = address_of(value) or ""
    if address.startswith(_BLOB):
        return {"sha256": address.removeprefix(_BLOB).partition("/")[0]}
    path = local_path(address)
    try:
        return value if path is None else {"sha256": sha256_of(path)}
    except OSError:  # it does not exist, or cannot be read: the task will say so
        return value


def sha256_of(path: str) -> str:
    """The sha256 of a file, or of a folder's paths and files. Raises OSError, also for what is neither."""
    found = os.stat(path)
    if not stat.S_ISDIR(found.st_mode):
        return _of_file(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    whole = hashlib.sha256()
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = f"{folder}/{name}"
            whole.update(f"{os.path.relpath(file, path)}\0{sha256_of(file)}\0".encode(errors="surrogateescape"))
    return whole.hexdigest()


@functools.lru_cache(maxsize=4096)
def _of_file(path: str, *_state: int) -> str:
    """Kept for as long as the file's inode, size and times are the same."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe would wait for its other end
    with open(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is not a regular file")
        return hashlib.file_digest(file, "sha256").hexdigest()

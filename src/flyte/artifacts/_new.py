"""`new`: marks a value that a task returns as an artifact; and what of a task's outputs is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from flyte import wire
from flyte._logging import system_logger
from flyte.artifacts._metadata import Metadata
from flyte.io import DataFrame, Dir, File

T = TypeVar("T")

_KINDS = (File, Dir, DataFrame)
_DEEPEST = 10
"""How far into an output an artifact is looked for that must not be there."""


class _Marked(type):
    """`isinstance` looks at the value, not at its class: every File could be an artifact, and few are."""

    def __instancecheck__(cls, value: object) -> bool:
        return getattr(value, "_flyte_metadata", None) is not None


class Artifact(metaclass=_Marked):
    """A File, Dir or DataFrame that was marked by `new`."""

    _flyte_metadata: Metadata

    def get_flyte_metadata(self) -> Metadata:
        """What `new` was told of it."""
        return self._flyte_metadata


def new(obj: T, metadata: Metadata) -> T:
    """`obj` with the metadata of an artifact. It is an equal File, Dir or DataFrame in all other respects.

    A task returns it as an output of its own, not inside of a list or model. Raises TypeError for any other value.
    """
    check_kind(obj)
    if isinstance(obj, DataFrame):
        marked: Any = DataFrame(obj.uri, obj.format, obj.hash, obj.preview)
        marked._frame, marked._type = obj._frame, obj._type
    else:
        marked = type(obj).from_json(obj.to_json())  # type: ignore[attr-defined]
    object.__setattr__(marked, "_flyte_metadata", metadata)
    result: T = marked
    return result


def check_kind(obj: object) -> None:
    """Raise TypeError for what cannot be an artifact."""
    if not isinstance(obj, _KINDS):
        raise TypeError(
            f"a {type(obj).__name__} cannot be an artifact: that is a flyte.io.File, Dir or DataFrame "
            "(DataFrame.wrap_df() makes one of a frame)"
        )


def produced(task: Any, result: Any, outputs: list[Any]) -> list[wire.ProducedArtifact]:
    """The artifacts among what a task returned; `outputs` are its outputs as JSON data.

    Raises TypeError for an artifact inside of another value.
    """
    results = (result,) if len(outputs) == 1 else result
    found = []
    for at, value in enumerate(results):
        if isinstance(value, Artifact):
            spec = value.get_flyte_metadata().to_wire()
            found.append(wire.ProducedArtifact(output=at, spec=spec, value=msgspec.json.encode(outputs[at])))
        elif _holds_artifact(value, _DEEPEST):
            raise TypeError(f"{task.name} returns an artifact inside of another value; return it as an output itself")
    if found and not task.options.produces_artifacts:
        name = found[0].spec.name
        system_logger.warning(f"{task.name} returns the artifact {name!r}: declare it with produces_artifacts=True")
        return []
    return found


def _holds_artifact(value: Any, depth: int) -> bool:
    return depth > 0 and any(isinstance(part, Artifact) or _holds_artifact(part, depth - 1) for part in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if hasattr(type(value), "model_fields"):
        return [getattr(value, name, None) for name in type(value).model_fields]
    return ()

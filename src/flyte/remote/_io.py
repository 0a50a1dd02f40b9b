"""Inputs and outputs of an action, as Python values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

import flyte.io  # noqa: F401 - files and folders may arrive where nothing is declared
from flyte import wire
from flyte._client.client import Client
from flyte._values import by_schema as _natural
from flyte._values import from_json
from flyte._values.text import from_bytes

if TYPE_CHECKING:
    from flyte._declare.task import TaskTemplate
    from flyte._local.client import LocalClient

Runs: TypeAlias = "Client | LocalClient"
"""The source of runs: a platform, or this process in local mode."""

AnyTask: TypeAlias = "TaskTemplate[..., Any, Any]"


class ActionInputs(Mapping[str, Any]):
    """The inputs by name; read like a dict."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"ActionInputs({self._values!r})"

    def to_dict(self) -> dict[str, Any]:
        return dict(self._values)


class ActionOutputs(tuple[Any, ...]):
    """The outputs in order; also `.o0`, `.o1`, …. A function that returns nothing gives `(None,)`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "o" and name[1:].isdigit() and int(name[1:]) < len(self):
            return self[int(name[1:])]
        raise AttributeError(f"these outputs have no {name!r}; they are {', '.join(self.named_outputs) or 'empty'}")

    @property
    def named_outputs(self) -> dict[str, Any]:
        """`{"o0": …, "o1": …}`."""
        return {f"o{at}": value for at, value in enumerate(self)}

    def __repr__(self) -> str:
        return f"ActionOutputs({', '.join(f'o{at}={value!r}' for at, value in enumerate(self))})"

    def __reduce__(self) -> Any:
        return ActionOutputs, (tuple(self),)


class NoOutputs(ActionOutputs):
    """The empty outputs of an action that produced none; indexing raises RuntimeError with the reason.

    So a web handler can answer with `run.status` and `run.outputs()`, however the run ended.
    """

    reason: str

    def __new__(cls, reason: str) -> NoOutputs:
        none = super().__new__(cls)
        none.reason = reason
        return none

    def __getitem__(self, at: Any) -> Any:
        raise RuntimeError(self.reason)

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "o" and name[1:].isdigit():
            raise RuntimeError(self.reason)
        return super().__getattr__(name)

    def __repr__(self) -> str:
        return f"NoOutputs({self.reason!r})"

    def __reduce__(self) -> Any:
        return NoOutputs, (self.reason,)


async def content(runs: Runs, inline: msgspec.Raw | None, blob: str | None) -> Any:
    """JSON data, inline or from the blob store; None if there is neither."""
    if blob is not None:
        return from_bytes(await cast("Client", runs).get_blob(blob), "the value")
    return from_bytes(bytes(inline), "the value") if inline is not None else None


def outputs_of(data: list[Any], task: AnyTask | None, interface: wire.InterfaceSpec | None) -> ActionOutputs:
    """Values of the types that the task's annotations name, if known here; else natural JSON data."""
    if task is not None:
        return ActionOutputs(task.interface.load_outputs(data))
    schemas = [spec.schema for spec in interface.outputs] if interface else []
    return ActionOutputs(_natural.load(item, schemas[at] if at < len(schemas) else {}) for at, item in enumerate(data))


def inputs_of(data: dict[str, Any], task: AnyTask | None, interface: wire.InterfaceSpec | None) -> ActionInputs:
    if task is not None:
        return ActionInputs(task.interface.load_inputs(data))
    schemas = {spec.name: spec.schema for spec in interface.inputs} if interface else {}
    return ActionInputs({name: _natural.load(item, schemas.get(name, {})) for name, item in data.items()})


def typed(values: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values converted to the given types; values without a type stay unchanged."""
    return {name: from_json(item, types[name], name) if name in types else item for name, item in values.items()}


def as_dict(record: msgspec.Struct) -> dict[str, Any]:
    """A record as plain data."""
    return cast("dict[str, Any]", msgspec.json.decode(msgspec.json.encode(record)))


def as_json(record: msgspec.Struct) -> str:
    return msgspec.json.encode(record).decode()

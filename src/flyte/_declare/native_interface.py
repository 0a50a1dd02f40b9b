"""`NativeInterface`: a task's inputs and outputs as Python types, for plugins and agents that describe tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from flyte._declare.interface import Interface, interface_of
from flyte._values.codec import Schemas
from flyte._values.table import codec_of


class HasDefault:
    """Stands for a default that is not known here, such as that of a deployed task."""


@dataclass(frozen=True)
class NativeInterface:
    """Inputs by name, each with its type and its default (`inspect.Parameter.empty` for none), and outputs by name."""

    inputs: dict[str, tuple[Any, Any]]
    outputs: dict[str, Any]
    docstring: str | None = None
    has_default: ClassVar[type] = HasDefault

    @classmethod
    def from_callable(cls, func: Callable[..., Any]) -> NativeInterface:
        """The interface of a function, from its annotations."""
        return cls.from_interface(interface_of(func, getattr(func, "__name__", "function")), inspect.getdoc(func))

    @classmethod
    def from_interface(cls, interface: Interface, docstring: str | None = None) -> NativeInterface:
        inputs = {name: (each.annotation, each.default) for name, each in interface.inputs.items()}
        returns_nothing = interface.returns is None or interface.returns is type(None)
        outputs = {} if returns_nothing else {each.name: each.annotation for each in interface.outputs}
        return cls(inputs, outputs, docstring)

    @classmethod
    def from_types(
        cls, inputs: Mapping[str, tuple[Any, Any]], outputs: Mapping[str, Any], default_inputs: Any = None
    ) -> NativeInterface:
        """The interface of these types. `default_inputs` names the inputs whose default is `has_default`."""
        for name, (_, default) in inputs.items():
            if default is cls.has_default and name not in (default_inputs or ()):
                raise ValueError(f"Input {name} has a default value but no default input provided for remote task.")
        return cls(dict(inputs), dict(outputs))

    def has_outputs(self) -> bool:
        return bool(self.outputs)

    def required_inputs(self) -> list[str]:
        """The names of the inputs without a default."""
        return [name for name, (_, default) in self.inputs.items() if default is inspect.Parameter.empty]

    def num_required_inputs(self) -> int:
        return len(self.required_inputs())

    def get_input_types(self) -> dict[str, Any]:
        return {name: annotation for name, (annotation, _) in self.inputs.items()}

    def convert_to_kwargs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """All arguments by name. Raises ValueError for more arguments than there are inputs."""
        if len(args) > len(self.inputs):
            raise ValueError(f"{len(args)} positional arguments were given; the inputs are {', '.join(self.inputs)}")
        given = {**kwargs, **dict(zip(self.inputs, args, strict=False))}
        if len(given) > len(self.inputs):
            raise ValueError(f"{len(given)} arguments were given; the inputs are {', '.join(self.inputs)}")
        return given

    @property
    def json_schema(self) -> dict[str, Any]:
        """One JSON Schema for the object of all inputs."""
        schemas = Schemas()
        properties = {name: schemas.of(codec_of(kind)) for name, kind in self.get_input_types().items()}
        schema = {"type": "object", "properties": properties, "required": self.required_inputs()}
        return {**schema, "$defs": schemas.definitions} if schemas.definitions else schema

"""What a function takes and gives: bound, checked and carried across processes by its annotations.

Outputs are a list with one element for each declared output: n for `-> tuple[A, B, …]` of fixed length, otherwise one,
also for a function that returns nothing (`[null]`).
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from flyte import wire
from flyte._values import pickles as _pickles
from flyte._values.codec import Codec, Mismatch, Schemas
from flyte._values.constraints import description_of
from flyte._values.fields import or_none
from flyte._values.table import codec_of
from flyte._values.text import to_bytes
from flyte.errors import InvalidInputError, RestrictedTypeError, RuntimeDataValidationError

_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Input:
    name: str
    annotation: Any
    codec: Codec
    default: Any
    """`inspect.Parameter.empty` where there is none."""
    positional_only: bool
    help: str

    @property
    def required(self) -> bool:
        return self.default is _EMPTY


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    """`o0`, `o1`, …"""
    annotation: Any
    codec: Codec


@dataclass(frozen=True)
class Interface:
    """A function's inputs and outputs."""

    owner: str
    """The function's name, for messages."""
    signature: inspect.Signature
    inputs: Mapping[str, Input]
    outputs: tuple[Output, ...]
    returns: Any
    """The annotation of what the function returns."""

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, without defaults. Raises InvalidInputError for missing, unknown or surplus ones."""
        names = list(self.inputs)
        if len(args) > len(names):
            raise InvalidInputError(f"{self.owner} takes {self._expected()}; {len(args)} positional inputs were given")
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in self.inputs:
                raise InvalidInputError(f"{self.owner} has no input {name!r}; it takes {self._expected()}")
            if name in values:
                raise InvalidInputError(f"{self.owner} got the input {name!r} twice")
            values[name] = value
        self._check_complete(values)
        return {name: values[name] for name in names if name in values}

    def _check_complete(self, given: Mapping[str, Any]) -> None:
        missing = [repr(name) for name, spec in self.inputs.items() if spec.required and name not in given]
        if missing:
            word = "input" if len(missing) == 1 else "inputs"
            raise InvalidInputError(f"{self.owner} lacks the {word} {', '.join(missing)}; it takes {self._expected()}")

    def _expected(self) -> str:
        shown = [f"{spec.name}: {spec.codec.name}{'' if spec.required else ' = …'}" for spec in self.inputs.values()]
        return f"({', '.join(shown)})" if shown else "no inputs"

    def dump_inputs(self, values: Mapping[str, Any], name: str = "input") -> dict[str, Any]:
        """Bound values as a JSON object, defaults included wherever they have a JSON form."""
        dumped = {}
        for spec in self.inputs.values():
            if spec.name in values:
                dumped[spec.name] = _dump(spec.codec, values[spec.name], f"{name} {spec.name!r} of {self.owner}")
            elif (default := self._defaults.get(spec.name)) is not None:
                dumped[spec.name] = default[0]
        return dumped

    def dump_given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Some of the inputs as a JSON object, without the defaults of the others."""
        return {
            name: _dump(self.inputs[name].codec, value, f"input {name!r} of {self.owner}")
            for name, value in values.items()
        }

    def load_inputs(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Values from a JSON object. Raises InvalidInputError for missing, unknown or ill-typed ones."""
        for name in data:
            if name not in self.inputs:
                raise InvalidInputError(f"{self.owner} has no input {name!r}; it takes {self._expected()}")
        self._check_complete(data)
        return {
            name: _load(self.inputs[name].codec, item, f"input {name!r} of {self.owner}") for name, item in data.items()
        }

    def checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Bound values as the function gets them: sent through JSON and back, for a call in this process."""
        return self.load_inputs(self.dump_inputs(values))

    def dump_outputs(self, result: Any) -> list[Any]:
        """What the function returned, as a JSON array. Raises RuntimeDataValidationError where it does not fit."""
        results = (result,) if len(self.outputs) == 1 else result
        if not isinstance(results, tuple) or len(results) != len(self.outputs):
            expected = ", ".join(output.codec.name for output in self.outputs)
            raise RuntimeDataValidationError(f"{self.owner} must return tuple[{expected}], not {result!r:.80}")
        try:
            return [
                _dump(output.codec, item, self._of_output(output))
                for output, item in zip(self.outputs, results, strict=True)
            ]
        except InvalidInputError as error:
            raise RuntimeDataValidationError(str(error)) from None

    def load_outputs(self, data: list[Any]) -> tuple[Any, ...]:
        """One value for each declared output."""
        if len(data) != len(self.outputs):
            raise RuntimeDataValidationError(
                f"{self.owner} declares {len(self.outputs)} outputs and {len(data)} arrived; is it another version?"
            )
        return tuple(
            _load(output.codec, item, self._of_output(output)) for output, item in zip(self.outputs, data, strict=True)
        )

    def _of_output(self, output: Output) -> str:
        """How an error names it: by its place where there are several."""
        if len(self.outputs) == 1:
            return f"the output of {self.owner}"
        return f"output {self.outputs.index(output) + 1} of {self.owner}"

    def load_result(self, data: list[Any]) -> Any:
        """What the function returned: a tuple only where several outputs are declared."""
        values = self.load_outputs(data)
        return values[0] if len(values) == 1 else values

    def arguments(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """How to call the function with these values."""
        args = [values[spec.name] for spec in self.inputs.values() if spec.positional_only and spec.name in values]
        return args, {name: value for name, value in values.items() if not self.inputs[name].positional_only}

    @functools.cached_property
    def _defaults(self) -> dict[str, tuple[Any]]:
        """Name → (JSON of the default,), where the default has one that a person can read."""
        defaults = {}
        for spec in self.inputs.values():
            if not spec.required and (form := _plain(spec)) is not None:
                defaults[spec.name] = form
        return defaults

    def spec(self) -> wire.InterfaceSpec:
        """The interface as it is registered with the platform."""
        inputs = [
            wire.InputSpec(
                name=spec.name,
                schema=Schemas().whole(spec.codec),
                type=spec.codec.name,
                required=spec.required,
                default=msgspec.Raw(to_bytes(self._defaults.get(spec.name, (None,))[0])),
                help=spec.help,
            )
            for spec in self.inputs.values()
        ]
        outputs = [
            wire.OutputSpec(name=output.name, schema=Schemas().whole(output.codec), type=output.codec.name)
            for output in self.outputs
        ]
        return wire.InterfaceSpec(inputs=inputs, outputs=outputs)

    def json_schema(self) -> dict[str, Any]:
        """One JSON Schema for the object of all inputs."""
        schemas = Schemas()
        properties = {}
        for spec in self.inputs.values():
            extra: dict[str, Any] = {"description": spec.help} if spec.help else {}
            if spec.name in self._defaults:
                extra["default"] = self._defaults[spec.name][0]
            properties[spec.name] = {**schemas.of(spec.codec), **extra}
        required = [spec.name for spec in self.inputs.values() if spec.required]
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        return {**schema, "$defs": schemas.definitions} if schemas.definitions else schema


def _dump(codec: Codec, value: Any, name: str) -> Any:
    try:
        return codec.dump(value)
    except Mismatch as mismatch:
        raise InvalidInputError(mismatch.sentence(name)) from None


def _load(codec: Codec, data: Any, name: str) -> Any:
    try:
        return codec.load(data)
    except Mismatch as mismatch:
        raise InvalidInputError(mismatch.sentence(name)) from None


def _plain(spec: Input) -> tuple[Any] | None:
    """The default's JSON in a 1-tuple, or None where it would have to be pickled or is of another type."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = spec.codec.dump(spec.default)
    except (Mismatch, RestrictedTypeError):
        return None
    return None if _pickles.MARK.encode() in to_bytes(data) else (data,)


def check_signature(func: Callable[..., Any], owner: str) -> inspect.Signature:
    """The signature. Raises ValueError for `*args` and `**kwargs`: every input of a task has a name."""
    signature = inspect.signature(func)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise ValueError(
                f"{owner} takes `{stars}{parameter.name}`; every input of a task needs a name of its own "
                "(use a list or a dict input)"
            )
    return signature


def interface_of(func: Callable[..., Any], owner: str) -> Interface:
    """The interface of a function, from its signature, its annotations and its docstring."""
    signature = inspect.signature(func)
    hints = _type_hints(func)
    helps = _parameter_docs(inspect.getdoc(func) or "")
    inputs = {}
    for name, parameter in signature.parameters.items():
        annotation = hints.get(name, Any)
        inputs[name] = Input(
            name=name,
            annotation=annotation,
            codec=codec_of(or_none(annotation, parameter.default)),
            default=parameter.default,
            positional_only=parameter.kind is parameter.POSITIONAL_ONLY,
            help=helps.get(name, "") or _annotated_help(annotation),
        )
    returns = hints.get("return", Any)
    return Interface(owner, signature, inputs, _outputs(returns), returns)


def _outputs(annotation: Any) -> tuple[Output, ...]:
    args = typing.get_args(annotation)
    several = typing.get_origin(annotation) is tuple and len(args) > 1 and args[-1] is not Ellipsis
    annotations = args if several else (annotation,)
    return tuple(Output(f"o{index}", each, codec_of(each)) for index, each in enumerate(annotations))


def _type_hints(func: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as types. Names of an enclosing function are found; what cannot be found counts as `Any`, aloud."""
    try:
        return typing.get_type_hints(func, include_extras=True)
    except NameError:
        pass
    names = {**getattr(func, "__globals__", {}), **inspect.getclosurevars(func).nonlocals}
    hints = {}
    for name, annotation in getattr(func, "__annotations__", {}).items():
        try:
            hints[name] = eval(annotation, names) if isinstance(annotation, str) else annotation
        except NameError as error:
            warnings.warn(
                f"{func.__qualname__}: the annotation {annotation!r} of {name!r} cannot be found at run time "
                f"({error}); it counts as Any",
                UserWarning,
                stacklevel=2,
            )
            hints[name] = Any
    return hints


def _annotated_help(annotation: Any) -> str:
    """The first text in `Annotated[T, "…"]`, or a field's description."""
    if typing.get_origin(annotation) is not typing.Annotated:
        return ""
    texts = (item if isinstance(item, str) else description_of(item) for item in annotation.__metadata__)
    return next(filter(None, texts), "")


_GOOGLE = re.compile(r"^\s+(\w+)(?:\s*\([^)]*\))?:\s+(.+)$")
_SPHINX = re.compile(r"^\s*:param\s+(?:[^:]*\s)?(\w+):\s*(.+)$")


_SECTION = re.compile(r"\s*(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?):\s*|\s*:\w+[^:]*:.*")


def without_sections(doc: str) -> str:
    """What a docstring says before its sections: of the parameters, each flag has its own help."""
    lines = doc.splitlines()
    ends = next((number for number, line in enumerate(lines) if _SECTION.fullmatch(line)), len(lines))
    return "\n".join(lines[:ends]).strip()


def _parameter_docs(doc: str) -> dict[str, str]:
    """What a docstring says of each parameter: an `Args:` section, or `:param x:` lines."""
    docs: dict[str, str] = {}
    inside = False
    for line in doc.splitlines():
        if found := _SPHINX.match(line):
            docs[found[1]] = found[2].strip()
        elif line.strip() in ("Args:", "Arguments:", "Parameters:"):
            inside = True
        elif line and not line[0].isspace():
            inside = False
        elif inside and (found := _GOOGLE.match(line)):
            docs[found[1]] = found[2].strip()
    return docs

"""The parameters of an app: literals, other apps' addresses, outputs of runs, files.

The platform resolves them when the app starts, sets the environment variable of each and lists them for
`get_parameter`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flyte import rules, wire
from flyte.io import Dir, File

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEndpoint:
    """The address of another app, resolved when the app with this parameter starts."""

    app_name: str
    public: bool = False
    """Without effect here, where an app has a single address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutput:
    """An output of a run: of `run_name`, or of the latest run of `task_name` that succeeded, known at deployment."""

    type: Any = "string"
    """"string", "file" or "directory"; `str`, `File` and `Dir` mean the same."""
    run_name: str | None = None
    task_name: str | None = None
    task_version: str | None = None
    task_auto_version: Literal["latest", "current"] | None = None
    getter: tuple[str | int, ...] = (0,)
    """The path to the value inside of the outputs: indices and names."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", {str: "string", File: "file", Dir: "directory"}.get(self.type, self.type))
        object.__setattr__(self, "getter", tuple(self.getter))

    def check(self) -> None:
        """Raise ValueError unless the fields name one run, or one task at one version."""
        if (self.run_name is None) == (self.task_name is None):
            raise ValueError("RunOutput takes either run_name or task_name")
        if self.task_version is not None and self.task_auto_version is not None:
            raise ValueError("RunOutput takes either task_version or task_auto_version")


@dataclass(frozen=True, slots=True)
class ArtifactValue:
    """The file or folder of an artifact, by its name.

    Which version it is, is found when the app is deployed; without `version`, the one that was made last. With a
    `type`, the deployment is refused if the artifact is something else.
    """

    name: str
    version: str | None = None
    project: str | None = None
    domain: str | None = None
    type: Literal["file", "directory"] | None = None

    def __post_init__(self) -> None:
        wire.ARTIFACT_NAME.check(self.name)
        if self.version is not None:
            wire.ARTIFACT_VERSION.check(self.version)
        if self.type not in (None, "file", "directory"):
            raise ValueError(f"an ArtifactValue is of type 'file' or 'directory', not {self.type!r}")


ParameterValue = str | File[Any] | Dir[Any] | RunOutput | ArtifactValue | AppEndpoint


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an app. `Input` is the same under its older name."""

    name: str
    value: ParameterValue | None = None
    type: Literal["string", "file", "directory"] | str | None = None
    env_var: str | None = None
    """The environment variable that gets the value; by default the name in upper case, with `_` for `-`."""
    download: bool = True
    mount: str | None = None
    """The location for a file or folder; a path that ends in `/` keeps the file's name."""
    ignore_patterns: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        rules.PARAMETER_NAME.check(self.name)
        if self.env_var is not None and not _ENV_NAME.match(self.env_var):
            raise ValueError(f"{self.env_var!r} is not a valid name for an environment variable: letters, digits and _")
        if isinstance(self.value, str):
            rules.VARIABLE_VALUE.check(self.value)
        if not isinstance(self.value, str | File | Dir | RunOutput | ArtifactValue | AppEndpoint | None):
            raise TypeError(
                f"the parameter {self.name!r} is text, a File, a Dir, a RunOutput, an ArtifactValue or an AppEndpoint, "
                f"not {self.value!r}"
            )

    @property
    def env(self) -> str:
        """The name of the effective environment variable."""
        return self.env_var or self.name.upper().replace("-", "_")

    def to_wire(self) -> wire.ParameterSpec:
        """The spec. Raises ValueError for a RunOutput that names no run."""
        common: dict[str, Any] = {"name": self.name, "env": self.env, "mount": self.mount, "download": self.download}
        match self.value:
            case AppEndpoint(app_name=app):
                return wire.ParameterSpec(**common, kind="endpoint", app_name=app)
            case RunOutput() as output:
                output.check()
                return wire.ParameterSpec(
                    **common,
                    kind="run_output",
                    run_name=output.run_name,
                    task_name=output.task_name,
                    task_version=output.task_version,
                    getter=list(output.getter),
                )
            case ArtifactValue() as artifact:
                wanted: dict[Any, Literal["file", "dir"]] = {"file": "file", "directory": "dir"}
                return wire.ParameterSpec(
                    **common,
                    kind="artifact",
                    artifact=artifact.name,
                    artifact_version=artifact.version,
                    artifact_place=(artifact.project, artifact.domain),
                    artifact_type=wanted.get(artifact.type),
                )
            case File(path=path):
                return wire.ParameterSpec(**common, kind="file", value=path)
            case Dir(path=path):
                return wire.ParameterSpec(**common, kind="dir", value=path)
            case value:
                return wire.ParameterSpec(**common, kind=self._literal_kind(), value=value)

    def _literal_kind(self) -> Literal["value", "file", "dir"]:
        return "file" if self.type == "file" else "dir" if self.type == "directory" else "value"


Input = Parameter


def all_parameters() -> dict[str, Any]:
    """Every parameter of the app that this process serves, by name; empty outside an app."""
    file = os.environ.get("FLYTE_PARAMETERS_FILE")
    text = Path(file).read_text() if file else os.environ.get("FLYTE_PARAMETERS") or "{}"
    values: dict[str, Any] = json.loads(text)
    return values


def get_parameter(name: str) -> str:
    """A parameter of the app that this process serves. Raises ValueError that lists the app's parameters."""
    values = all_parameters()
    if name not in values:
        raise ValueError(f"the app has no parameter {name!r}; it has {', '.join(values) or 'none'}")
    return str(values[name])


get_input = get_parameter
"""Its older name."""

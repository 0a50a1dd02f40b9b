"""Artifacts: files, folders and data frames that are known by a name and a version."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import field

import flyte.rules as rules  # `from flyte import` would ask the package for the name first
from flyte.wire.specs import DEFAULT_DOMAIN, DEFAULT_PROJECT, Record

ARTIFACT_NAME = rules.Text(
    "artifact name",
    "be 1 to 200 letters, digits, '.', '_' and '-', with a letter or digit first",
    200,
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
)
ARTIFACT_VERSION = rules.Text(
    "artifact version",
    "be 1 to 200 letters, digits, '.', '_', '-' and '+', with a letter or digit first",
    200,
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*"),
)

ArtifactName = Annotated[str, ARTIFACT_NAME]
ArtifactVersion = Annotated[str, ARTIFACT_VERSION]


class ArtifactCard(Record, frozen=True, kw_only=True):
    """A page or picture that describes an artifact: a file, by its path or address."""

    uri: rules.Folder
    format: rules.Line = "html"
    card_type: rules.Line = "generic"


class ArtifactSpec(Record, frozen=True, kw_only=True):
    """An artifact as its maker describes it."""

    name: ArtifactName
    version: ArtifactVersion | None = None
    """None where the platform is to choose one."""
    description: rules.Line = ""
    kind: Literal["model", "data", "generic"] = "generic"
    attrs: rules.Context = field(default_factory=dict)
    card: ArtifactCard | None = None


class Artifact(Record, frozen=True, kw_only=True):
    """One version of an artifact: a file, a folder or a data frame that is known by a name."""

    project: str
    domain: str
    name: str
    version: str
    kind: str = "generic"
    description: str = ""
    attrs: dict[str, str] = field(default_factory=dict)
    card: ArtifactCard | None = None
    value: msgspec.Raw
    """The JSON form of the File, Dir or DataFrame."""
    schema: dict[str, Any] = field(default_factory=dict)
    created: float
    created_by: str = ""
    run: str | None = None
    """The run, the action and the attempt that made it; None where it was not made by a task."""
    action: str | None = None
    attempt: int | None = None
    external_ref: str | None = None
    url: str = ""


class ArtifactRequest(Record, frozen=True, kw_only=True):
    """What an artifact is made of outside of a task's outputs."""

    spec: ArtifactSpec
    project: rules.Line = DEFAULT_PROJECT
    domain: rules.Line = DEFAULT_DOMAIN
    value: msgspec.Raw
    schema: dict[str, Any]
    run: rules.RunName | None = None
    action: rules.Line | None = None
    attempt: rules.Count | None = None
    external_ref: rules.Line | None = None
